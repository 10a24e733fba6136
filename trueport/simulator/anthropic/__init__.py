"""Anthropic: messages, token counts, message batches, models."""
