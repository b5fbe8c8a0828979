"""Chapter 4, LayerNorm: its backward."""

import numpy as np

from minidistil.lesson.exercise import exercise, rng


def inputs():
    """Rows of different size, γ ≠ 1, and an ε that is large enough to be visible."""
    draw = rng(1)
    x = draw.standard_normal((5, 8)) * np.linspace(0.3, 3, 5)[:, None]
    gamma, dy = 1 + 0.5 * draw.standard_normal(8), draw.standard_normal((5, 8))
    centred = x - x.mean(axis=1, keepdims=True)
    r = 1 / np.sqrt((centred**2).mean(axis=1, keepdims=True) + 0.05)
    return [(dy, centred * r, r, gamma)]


@exercise(
    cases=inputs,
    returns=("dx", "dgamma", "dbeta"),
    hint="With d = γ·dy: d minus its mean, minus x̂ times the mean of d·x̂; all of it times r.",
)
def my_backward(dy, xhat, r, gamma):
    """Direct, through the mean, and through r."""
    d = gamma * dy
    mean = d.mean(axis=1, keepdims=True)
    along = (d * xhat).mean(axis=1, keepdims=True)
    return r * (d - mean - xhat * along), (dy * xhat).sum(axis=0), dy.sum(axis=0)


@my_backward.right
def by_the_jacobian(dy, xhat, r, gamma):
    """One row at a time, with its whole Jacobian."""
    C = xhat.shape[1]
    dx = np.empty_like(dy)
    for n, row in enumerate(xhat):
        jacobian = r[n] * (np.eye(C) - 1 / C - np.outer(row, row) / C)
        dx[n] = jacobian.T @ (gamma * dy[n])
    return dx, np.einsum("nc,nc->c", dy, xhat), np.ones(len(dy)) @ dy


@my_backward.right
def with_sums(dy, xhat, r, gamma):
    d, C = gamma * dy, len(gamma)
    sums = d.sum(axis=1, keepdims=True), (d * xhat).sum(axis=1, keepdims=True)
    return r / C * (C * d - sums[0] - xhat * sums[1]), (xhat * dy).sum(0), dy.sum(0)


def variant(*, mu=1.0, hat=1.0, d=lambda dy, gamma: gamma * dy, factor=lambda r, gamma: r, axis=1):
    """The backward with one part of it changed."""

    def changed(dy, xhat, r, gamma):
        dxhat = d(dy, gamma)
        inside = dxhat - mu * dxhat.mean(axis=axis, keepdims=True)
        inside = inside - hat * xhat * (dxhat * xhat).mean(axis=axis, keepdims=True)
        return inside * factor(r, gamma), (dy * xhat).sum(axis=0), dy.sum(axis=0)

    return changed


wrong = my_backward.wrong
wrong("x also reaches y through the mean and through r")(variant(mu=0, hat=0))
wrong("the way through r is missing")(variant(hat=0))
wrong("the way through the mean is missing")(variant(mu=0))
wrong("the way through r has the wrong sign")(variant(hat=-1))
wrong("the way through the mean has the wrong sign")(variant(mu=-1))
wrong("the means run over the channels (axis 1), not over the rows")(variant(axis=0))
wrong("the two corrections are means over C channels, not sums")(variant(mu=8, hat=8))
wrong("gamma is missing: dx̂ is gamma times dy")(variant(d=lambda dy, gamma: dy))
wrong("gamma scales dy before the means are taken, not the result")(
    variant(d=lambda dy, gamma: dy, factor=lambda r, gamma: r * gamma)
)
wrong("r is missing: x̂ is (x − μ) times r")(variant(factor=lambda r, gamma: 1))
wrong("multiply by r: this divides by it")(variant(factor=lambda r, gamma: 1 / r))


def with_others(dgamma, dbeta):
    """The right dx, and other gradients of γ and β."""
    return lambda *args: (my_backward(*args)[0], dgamma(*args[:2]), dbeta(args[0]))


def over_rows(x):
    return x.sum(axis=0)


wrong("dgamma and dbeta add up over rows; these are means")(
    with_others(lambda dy, xhat: (dy * xhat).mean(axis=0), lambda dy: dy.mean(axis=0))
)
wrong("dgamma needs x̂: y = γ·x̂ + β")(with_others(lambda dy, xhat: over_rows(dy), over_rows))
wrong("dgamma is one number for each channel: the sum over rows is missing")(
    with_others(lambda dy, xhat: dy * xhat, over_rows)
)
wrong("dbeta sums over the rows, not over the channels")(
    with_others(lambda dy, xhat: over_rows(dy * xhat), lambda dy: dy.sum(axis=1))
)
