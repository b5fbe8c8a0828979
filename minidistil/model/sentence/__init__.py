"""Sentence embeddings: one vector for each text."""
