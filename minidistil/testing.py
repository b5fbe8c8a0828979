"""How we know that a number is right.

`check_backward` says that a backward is the transpose of its forward's derivative; `compare` says
that one set of numbers is another up to the rounding that float32 itself explains.
"""

import numpy as np

FLOOR = 2e-7  # what one float32 rounding may cost, relative to the size of the tensor
REACH = 500  # how many of those a float32 answer can be from the exact one: 1e-4 of its size


def check_backward(forward, backward, args, rng, eps=1e-6, tol=1e-7, **fixed):
    """Assert that `backward` is the transpose of `forward`'s derivative at `args`.

    For a random nudge v of the arguments and a random cotangent u of the output,

        ⟨u, J v⟩           =          ⟨Jᵀu, v⟩
        forward, by central difference       backward

    one scalar equation that a wrong entry anywhere in Jᵀ almost surely breaks.
    u is random, never ones: softmax sends a cotangent of ones to exactly zero,
    so ones would pass a backward that returns nothing. Raises AssertionError.
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


def rms(x):
    """Root of the mean square, in float64; 0 for an empty array."""
    x = np.asarray(x, np.float64)
    return float(np.sqrt(np.mean(x * x))) if x.size else 0.0


def compare(name, mine, reference, exact, scale=None, factor=3.0):
    """Assert that `mine` is as good a float32 answer as `reference` is.

    Both are measured against `exact`, the float64 answer: mine may be `factor` times as far from
    it as the reference, plus FLOOR·scale, where scale is the rms of `exact` unless given (for a
    gradient: the largest rms of any gradient, as some are zero in exact arithmetic). A reference
    that float32 does not explain is refused: mine and exact often share their code, and a fault of
    both would else make the reference's error, and with it the allowance, large.
    Returns (error of mine, error allowed); raises AssertionError.
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


def within_twice(name, mine, reference, exact):
    """`compare` with factor 2, for numbers that should be summed the same way."""
    return compare(name, mine, reference, exact, factor=2.0)
