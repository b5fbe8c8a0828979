"""Causal language modelling: predict the next token."""
