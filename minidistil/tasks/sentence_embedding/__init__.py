"""Sentence embeddings, trained on pairs of texts; semantic search."""
