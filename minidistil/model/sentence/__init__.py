"""Sentence embeddings: one vector a text."""
