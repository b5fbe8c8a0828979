"""The last hidden state of every token of a text."""
