"""What owns data and HTTP. A domain is entered through its `api` module."""
