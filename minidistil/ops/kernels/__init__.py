"""Kernels that several ops share: matrix products, attention, number formats."""
