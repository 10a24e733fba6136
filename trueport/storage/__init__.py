"""Stores that cannot be used without saying for whom."""
