"""Classes of texts or of pairs of texts, or a number for each."""
