"""Chapter 2, what a backward is: the gradient of a direction, and the test of a gradient."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng

# ----------------------------------------------------------------------------- unit length


@exercise(
    cases=lambda: [tuple(3 * rng().standard_normal((2, 6)))],
    hint="x reaches y directly, with the factor 1/r, and through r: ∂r = Σ dy·(−x/r²) is one "
    "number, and dr/dx = x/r.",
    remark="What points along x̂ is removed from dy: stretching x leaves y where it is.",
)
def unit_backward(dy, x):
    r = np.sqrt((x * x).sum())
    xhat = x / r
    return (dy - xhat * (dy * xhat).sum()) / r


@unit_backward.right
def by_the_jacobian(dy, x):
    r = np.linalg.norm(x)
    return (np.eye(len(x)) / r - np.outer(x, x) / r**3) @ dy


unit_backward.wrong("the way through r is missing")(lambda dy, x: dy / np.sqrt(x @ x))


@unit_backward.wrong("1/r has the derivative −1/r²: the sign of the second way is wrong")
def other_sign(dy, x):
    return (dy + x * (dy @ x) / (x @ x)) / np.sqrt(x @ x)


@unit_backward.wrong("Σ dy·x runs over the whole vector: it is one number")
def entry_by_entry(dy, x):
    return (dy - x * (dy * x) / (x @ x)) / np.sqrt(x @ x)


@unit_backward.wrong("the second way needs 1/r³ in all: one 1/r² is missing")
def without_square(dy, x):
    return (dy - x * (dy @ x)) / np.sqrt(x @ x)


@unit_backward.wrong("the second way needs 1/r³ in all: one 1/r is missing")
def without_root(dy, x):
    r = np.sqrt(x @ x)
    return (dy - x * (dy @ x) / r) / r


@unit_backward.wrong("the factor 1/r of both ways is missing")
def not_divided(dy, x):
    return dy - x * (dy @ x) / (x @ x)


@unit_backward.wrong("r is the root of Σ x²: the root is missing")
def squared_length(dy, x):
    r = x @ x
    return (dy - x * (dy @ x) / r**2) / r


unit_backward.wrong("this is the forward, x/r")(lambda dy, x: x / np.sqrt(x @ x))

# ----------------------------------------------------------------------------- the test

WAVES = 100 * rng(1).standard_normal((4, 3))  # so curved that a one-sided difference shows


def wave(x):
    return np.sin(WAVES @ x), x


def too_small(dy, x):
    return (0.5 * WAVES.T @ (np.cos(WAVES @ x) * dy),)


def too_large(dy, x):
    return (2.5 * WAVES.T @ (np.cos(WAVES @ x) * dy),)


def inputs():
    """Two wrong backwards, so that the sides differ in both directions."""
    x, u, v = rng(2).standard_normal(3), rng(3).standard_normal(4), rng(4).standard_normal(3)
    return [(wave, wrong, x, u, v) for wrong in (too_small, too_large)]


@exercise(
    cases=inputs,
    hint="np.vdot(u, forward(x + 1e-6 * v)[0] - forward(x - 1e-6 * v)[0]) / 2e-6 is one side.",
)
def disagreement(forward, backward, x, u, v):
    """|⟨u, Jv⟩ − ⟨Jᵀu, v⟩|, the first by a central difference."""
    eps = 1e-6
    (ahead, _), (behind, _) = forward(x + eps * v), forward(x - eps * v)
    _, cache = forward(x)
    (dx,) = backward(u, cache)
    return abs((u * (ahead - behind)).sum() / (2 * eps) - (dx * v).sum())


@disagreement.right
def other_way_round(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return abs(right - left)


def sides(forward, backward, x, u, v, eps=1e-6):
    """⟨u, Jv⟩ by a central difference, ⟨Jᵀu, v⟩."""
    left = np.vdot(u, forward(x + eps * v)[0] - forward(x - eps * v)[0]) / (2 * eps)
    return left, np.vdot(backward(u, forward(x)[1])[0], v)


@disagreement.wrong("a central difference spans 2ε, not ε")
def over_one_nudge(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return abs(2 * left - right)


@disagreement.wrong("the difference is not divided by 2ε")
def undivided(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return abs(2e-6 * left - right)


@disagreement.wrong("this is one-sided, f(x + εv) − f(x): a central difference is more accurate")
def one_sided(forward, backward, x, u, v):
    left = np.vdot(u, forward(x + 1e-6 * v)[0] - forward(x)[0]) / 1e-6
    return abs(left - sides(forward, backward, x, u, v)[1])


@disagreement.wrong("this is one-sided, f(x) − f(x − εv): a central difference is more accurate")
def one_sided_behind(forward, backward, x, u, v):
    left = np.vdot(u, forward(x)[0] - forward(x - 1e-6 * v)[0]) / 1e-6
    return abs(left - sides(forward, backward, x, u, v)[1])


@disagreement.wrong("abs is missing: left − right is negative for some backwards")
def signed(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return left - right


@disagreement.wrong("abs is missing: right − left is negative for some backwards")
def signed_otherwise(forward, backward, x, u, v):
    return -signed(forward, backward, x, u, v)


@disagreement.wrong("this is relative to ⟨Jᵀu, v⟩: the difference itself is asked for")
def relative(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return abs(left - right) / abs(right)


@disagreement.wrong("the nudge goes along v: x + ε·v, not x + ε")
def along_ones(forward, backward, x, u, v):
    left, _ = sides(forward, backward, x, u, np.ones_like(v))
    return abs(left - sides(forward, backward, x, u, v)[1])


@disagreement.wrong("the backward takes the cotangent u, not the output y")
def output_as_cotangent(forward, backward, x, u, v):
    y, cache = forward(x)
    return abs(sides(forward, backward, x, u, v)[0] - np.vdot(backward(y, cache)[0], v))


@disagreement.wrong("the sign between the sides: they are subtracted, not added")
def added(forward, backward, x, u, v):
    left, right = sides(forward, backward, x, u, v)
    return abs(left + right)
