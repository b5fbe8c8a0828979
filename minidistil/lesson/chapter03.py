"""Chapter 3, linear and GELU: both backwards."""

import math

import numpy as np

from minidistil.lesson.exercise import exercise, rng

# ----------------------------------------------------------------------------- linear


@exercise(
    cases=lambda: [tuple(rng().standard_normal((3, 4, 4)))],  # square: any transpose fits
    returns=("dx", "dW", "db"),
    hint="Which index is summed? Of N, I and O only one arrangement has the right shapes.",
)
def linear_backward(dy, x, W):
    return dy @ W, dy.T @ x, dy.sum(axis=0)


@linear_backward.right
def in_indices(dy, x, W):
    return np.einsum("no,oi->ni", dy, W), np.einsum("no,ni->oi", dy, x), np.einsum("no->o", dy)


@linear_backward.right
def as_a_list(dy, x, W):
    return [(W.T @ dy.T).T, (x.T @ dy).T, np.ones(len(dy)) @ dy]


@linear_backward.wrong("dx needs W as it is stored, not its transpose")
def transposed_weight(dy, x, W):
    return dy @ W.T, dy.T @ x, dy.sum(axis=0)


@linear_backward.wrong("dW is transposed: it has one row for each output")
def transposed_gradient(dy, x, W):
    return dy @ W, x.T @ dy, dy.sum(axis=0)


@linear_backward.wrong("dW sums over the rows n: its factors are dyᵀ and x")
def products_of_outputs(dy, x, W):
    return dy @ W, dy @ x, dy.sum(axis=0)


@linear_backward.wrong("db sums over the rows n, not over the outputs")
def over_outputs(dy, x, W):
    return dy @ W, dy.T @ x, dy.sum(axis=1)


@linear_backward.wrong("db is a sum over all rows: this is dy itself")
def unsummed(dy, x, W):
    return dy @ W, dy.T @ x, dy


@linear_backward.wrong("gradients add up over rows; this mean divides by N")
def means(dy, x, W):
    return dy @ W, dy.T @ x / len(x), dy.mean(axis=0)


@linear_backward.wrong("the order is dx, dW, db")
def other_order(dy, x, W):
    return dy.T @ x, dy @ W, dy.sum(axis=0)


@linear_backward.wrong("dx is dy·W: this multiplies dy by x")
def with_input(dy, x, W):
    return dy @ x, dy.T @ x, dy.sum(axis=0)


# ----------------------------------------------------------------------------- GELU, tanh form

K, CUBIC = math.sqrt(2 / math.pi), 0.044715


@exercise(
    cases=lambda: [tuple(1.5 * rng(1).standard_normal((2, 3, 7)))],
    hint="A product: (x·Φ)′ = Φ + x·Φ′, and Φ′ = ½(1 − tanh² z)·z′.",
)
def gelu_tanh_backward(dy, x):
    """dx = dy·(Φ + x·Φ′)."""
    k = math.sqrt(2 / math.pi)
    th = np.tanh(k * (x + 0.044715 * x**3))
    dz = k * (1 + 3 * 0.044715 * x**2)
    return dy * (0.5 * (1 + th) + x * 0.5 * (1 - th**2) * dz)


@gelu_tanh_backward.right
def through_cosh(dy, x):
    z = K * (x + CUBIC * x**3)
    return dy / (1 + np.exp(-2 * z)) + dy * x * K * (1 + 3 * CUBIC * x * x) / np.cosh(z) ** 2 / 2


def slope(x, *, dz=None, half=0.5, bend=lambda th: 1 - th**2, own=1.0):
    """Φ + x·Φ′ of the tanh form, or with one part of it changed."""
    th = np.tanh(K * (x + CUBIC * x**3))
    dz = K * (1 + 3 * CUBIC * x**2) if dz is None else dz
    return own * 0.5 * (1 + th) + x * half * bend(th) * dz


wrong = gelu_tanh_backward.wrong
wrong("z′ is √(2/π)·(1 + 3·0.044715·x²): the cubic's part is missing")(
    lambda dy, x: dy * slope(x, dz=K)
)
wrong("x³ has the derivative 3x²: the 3 is missing")(
    lambda dy, x: dy * slope(x, dz=K * (1 + CUBIC * x**2))
)
wrong("z′ is missing: tanh z has the derivative (1 − tanh² z)·z′")(
    lambda dy, x: dy * slope(x, dz=1.0)
)
wrong("√(2/π) belongs to z′, too")(lambda dy, x: dy * slope(x, dz=1 + 3 * CUBIC * x**2))
wrong("x·Φ(x) is a product: x·Φ′(x) is missing")(lambda dy, x: dy * slope(x, half=0.0))
wrong("x·Φ(x) is a product: Φ(x) is missing")(lambda dy, x: dy * slope(x, own=0.0))
wrong("Φ has the factor ½, so has Φ′")(lambda dy, x: dy * slope(x, half=1.0))
wrong("tanh′ is 1 − tanh²: the square is missing")(
    lambda dy, x: dy * slope(x, bend=lambda th: 1 - th)
)
wrong("dy is missing: this is the slope alone")(lambda dy, x: slope(x))
wrong("this is the forward, x·Φ(x)")(lambda dy, x: x * 0.5 * (1 + np.tanh(K * (x + CUBIC * x**3))))


@wrong("this is the slope of the exact form")
def exact_form(dy, x):
    phi = 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))
    return dy * (phi + x * np.exp(-x * x / 2) / math.sqrt(2 * math.pi))
