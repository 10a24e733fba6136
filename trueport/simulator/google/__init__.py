"""Google: generated content, token counts, embeddings and models, at the Gemini API and at Vertex AI."""
