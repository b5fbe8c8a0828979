"""Rows of a sequence, seen head by head."""


def split_heads(x, n_heads):
    """(t,C)  ->  (H,t,D)."""
    return x.reshape(len(x), n_heads, -1).swapaxes(0, 1)


def merge_heads(x):
    """(H,t,D)  ->  (t,C)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
