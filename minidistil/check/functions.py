"""Elementwise functions that may stand in an activation's place."""

import numpy as np

FUNCTIONS = {
    "leaky ReLU, 0.01": lambda x: np.where(x > 0, x, 0.01 * x),
    "ReLU²": lambda x: np.maximum(x, 0) ** 2,
    "ReLU6": lambda x: np.clip(x, 0, 6),
    "ELU": lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))),
    "softplus": lambda x: np.logaddexp(0, x),
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "mish": lambda x: x * np.tanh(np.logaddexp(0, x)),
    "hard swish": lambda x: x * np.clip(x + 3, 0, 6) / 6,
    "sin": np.sin,
    "the absolute value": np.abs,
    "the square": np.square,
    "ReLU": lambda x: np.maximum(x, 0),
}  # fmt: skip


def slope_inside(f, mine, x):
    """The a for which mine = f(a·x), from a search over a; None where none is exact."""
    grid = np.concatenate([np.linspace(-3, -0.05, 60), np.linspace(0.05, 3, 60)])
    off = [np.abs(f(a * x) - mine).mean() for a in grid]
    i = int(np.argmin(off))
    low, high = grid[max(i - 1, 0)], grid[min(i + 1, len(grid) - 1)]
    for _ in range(80):  # golden section
        a, b = high - 0.618 * (high - low), low + 0.618 * (high - low)
        if np.abs(f(a * x) - mine).mean() < np.abs(f(b * x) - mine).mean():
            high = b
        else:
            low = a
    return 0.5 * (low + high)
