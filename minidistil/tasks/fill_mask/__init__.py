"""Masked language modelling: predict the tokens behind [MASK]."""
