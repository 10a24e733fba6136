"""`make bench`: what a call costs on its way through the gateway, against the provider called directly."""
