"""Multiple choice: which of some choices answers a question."""
