"""Whom the gateway calls."""
