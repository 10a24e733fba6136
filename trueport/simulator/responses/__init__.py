"""OpenAI's responses: answers made of items, kept between calls, streamed as named and numbered events."""
