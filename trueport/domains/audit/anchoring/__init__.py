"""Checkpoints leave the house: to witnesses, a folder elsewhere, and each tenant's own webhooks.

Whoever could write another history with the operator's keys cannot change what lies at these places already.
"""
