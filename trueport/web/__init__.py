"""The thin layer between HTTP and typed values. It knows no domain."""
