"""Text-to-text generation with an encoder–decoder, the base of translation and summarization."""
