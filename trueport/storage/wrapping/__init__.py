"""What wraps tenants' keys: a key of this installation, in a file, or in a key management service."""
