"""Encoder–decoder models: cross attention, the model, and its start from pretrained halves."""
