"""Assertions for numerical code: gradients, and float32 results within their rounding error.

`check_backward` compares a backward with central differences of its forward. `compare` bounds the
error of a float32 result by the error of a reference implementation in float32.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

FLOOR = 2e-7  # error that a few float32 roundings may cause, relative to the rms of the tensor
REACH = 500  # largest error of a float32 reference, in units of FLOOR: 1e-4 of the rms


def check_backward(forward: Callable, backward: Callable, args: Sequence[np.ndarray],
                   rng: np.random.Generator, eps: float = 1e-6, tol: float = 1e-7,
                   **fixed: Any) -> None:  # fmt: skip
    """Assert that `backward` is the transpose of `forward`'s derivative at `args`, in float64.

    For a random direction v of the arguments and a random cotangent u of the output,

        ⟨u, J v⟩           =          ⟨Jᵀu, v⟩
        forward, by central difference       backward

    A wrong entry anywhere in Jᵀ almost surely breaks this one scalar equation. u must be random:
    softmax maps a cotangent of ones to exactly zero, so that ones would accept a backward that
    returns zeros. Raises AssertionError.
    """
    args = [np.asarray(a, np.float64) for a in args]
    v = [rng.standard_normal(a.shape) for a in args]
    y, cache = forward(*args, **fixed)
    u = rng.standard_normal(np.shape(y))
    ahead, _ = forward(*[a + eps * d for a, d in zip(args, v, strict=True)], **fixed)
    behind, _ = forward(*[a - eps * d for a, d in zip(args, v, strict=True)], **fixed)
    numeric = np.vdot(u, ahead - behind) / (2 * eps)

    grads = backward(u, cache)
    for i, (grad, arg) in enumerate(zip(grads, args, strict=True)):
        if grad.shape != arg.shape:
            raise AssertionError(
                f"argument {i} has shape {arg.shape} but its gradient {grad.shape}"
            )
    analytic = sum(np.vdot(grad, d) for grad, d in zip(grads, v, strict=True))
    error = abs(numeric - analytic) / max(abs(numeric), abs(analytic), 1)
    if not error < tol:
        raise AssertionError(
            f"backward says {analytic:.9g}, central difference says {numeric:.9g} "
            f"(relative error {error:.1e}, allowed {tol:.0e})"
        )


def rms(x: np.ndarray) -> float:
    """Root of the mean square, in float64; 0 for an empty array."""
    x = np.asarray(x, np.float64)
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0


def compare(name: str, mine: np.ndarray, reference: np.ndarray, exact: np.ndarray,
            scale: float | None = None, factor: float = 3.0) -> tuple[float, float]:  # fmt: skip
    """Assert that `mine` is about as accurate a float32 result as `reference`.

    Both errors are rms distances from `exact`, the float64 result:

        error of mine  ≤  factor · error of reference  +  FLOOR · max(scale, rms(exact))

    scale: for a gradient, the largest rms of any gradient of the model, because some gradients are
    zero in exact arithmetic. A reference error above REACH roundings also fails: mine and exact
    often share code, and a mistake in both would otherwise raise the allowed error.
    Returns (error of mine, allowed error); raises AssertionError.
    """
    if np.shape(mine) != np.shape(exact):
        raise AssertionError(f"{name}: shape {np.shape(mine)}, expected {np.shape(exact)}")
    exact = np.asarray(exact, np.float64)
    size = rms(exact)
    floor = FLOOR * max(size, size if scale is None else scale)
    error = rms(np.asarray(mine, np.float64) - exact)
    theirs = rms(np.asarray(reference, np.float64) - exact)
    if not theirs <= REACH * floor:
        raise AssertionError(
            f"{name}: the reference is {theirs:.2e} from the exact answer, more than float32 "
            f"explains (size {size:.2e}): they are not the same quantity"
        )
    allowed = factor * theirs + floor
    if not error <= allowed:
        raise AssertionError(
            f"{name}: rms error {error:.2e}, allowed {allowed:.2e} (size {size:.2e})"
        )
    return error, allowed


def within_twice(
    name: str, mine: np.ndarray, reference: np.ndarray, exact: np.ndarray
) -> tuple[float, float]:
    """`compare` with factor 2, for results that sum in the same order."""
    return compare(name, mine, reference, exact, factor=2.0)
