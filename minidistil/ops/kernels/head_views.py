"""Views of a sequence's rows, head by head."""

import numpy as np


def split_heads(x: np.ndarray, n_heads: int) -> np.ndarray:
    """(T,C)  ->  (H,T,D)."""
    return x.reshape(len(x), n_heads, -1).swapaxes(0, 1)


def merge_heads(x: np.ndarray) -> np.ndarray:
    """(H,T,D)  ->  (T,C)."""
    return x.swapaxes(0, 1).reshape(x.shape[1], -1)
