"""Abstractive summarization: a short text with the document's content."""
