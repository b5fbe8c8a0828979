"""Extractive summarization: choose sentences of the document."""
