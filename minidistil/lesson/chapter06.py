"""Chapter 6, the encoder: the backward of the feed-forward sublayer."""

from minidistil.lesson.exercise import exercise, rng
from minidistil.ops import backend

ops = backend("numpy", "float64")


def half(u, p):
    """u (N,C)  ->  y (N,C) = LN(u + lin2(gelu(lin1(u)))), cache."""
    h, lin1 = ops.linear.forward(u, p["W1"], p["b1"])
    g, bend = ops.gelu.forward(h)
    f, lin2 = ops.linear.forward(g, p["W2"], p["b2"])
    s, add = ops.add.forward(u, f)
    y, norm = ops.layernorm.forward(s, p["gamma"], p["beta"])
    return y, (lin1, bend, lin2, add, norm)


def inputs():
    """C = F, so that a gradient under another name has the right shape."""
    draw = rng(6)
    p = {name: 0.5 * draw.standard_normal((6, 6)) for name in ("W1", "W2")}
    p |= {name: 0.3 * draw.standard_normal(6) for name in ("b1", "b2", "beta")}
    p["gamma"] = 1 + 0.3 * draw.standard_normal(6)
    _, cache = half(draw.standard_normal((5, 6)), p)
    return [(draw.standard_normal((5, 6)), cache)]


@exercise(
    cases=inputs,
    returns=("du", "dW1", "dW2"),
    hint="From the last line of half to the first, each op's backward. lin1 and add read u.",
)
def half_backward(dy, cache):
    """The ops of `half` in reverse order; the two gradients of u are added."""
    lin1, bend, lin2, add, norm = cache
    ds, _, _ = ops.layernorm.backward(dy, norm)
    du, df = ops.add.backward(ds, add)
    dg, dW2, _ = ops.linear.backward(df, lin2)
    (dh,) = ops.gelu.backward(dg, bend)
    du_ffn, dW1, _ = ops.linear.backward(dh, lin1)
    return du + du_ffn, dW1, dW2


@half_backward.right
def without_add(dy, cache):
    lin1, bend, lin2, _, norm = cache
    return in_parts(dy, lin1, bend, lin2, norm)


def in_parts(dy, lin1, bend, lin2, norm, *, stream=1, branch=1):
    """The sublayer's backward; without an op that is None, its ways weighted."""
    ds = dy if norm is None else ops.layernorm.backward(dy, norm)[0]
    dg, dw2, _ = ops.linear.backward(ds, lin2)
    dh = dg if bend is None else ops.gelu.backward(dg, bend)[0]
    du, dw1, _ = ops.linear.backward(dh, lin1)
    return stream * ds + branch * du, dw1, dw2


def variant(**options):
    """The backward with a way of u weighted otherwise."""
    return lambda dy, cache: in_parts(dy, *cache[:3], cache[4], **options)


wrong = half_backward.wrong
wrong("u also fed the sum: its gradient is missing")(variant(stream=0))
wrong("u also fed lin1: its gradient is missing")(variant(branch=0))
wrong("the sum's gradient is counted twice")(variant(stream=2))
wrong("both ways of u add up: they are not averaged")(variant(stream=0.5, branch=0.5))
wrong("gelu was forgotten on the way up")(
    lambda dy, cache: in_parts(dy, cache[0], None, cache[2], cache[4])
)
wrong("LayerNorm was forgotten: the sum gets ds, not dy")(
    lambda dy, cache: in_parts(dy, *cache[:3], None)
)
wrong("the order is du, dW1, dW2: dW1 and dW2 are exchanged")(
    lambda dy, cache: tuple(half_backward(dy, cache)[i] for i in (0, 2, 1))
)


@wrong("the stream's gradient of u is that behind LayerNorm, ds, not dy")
def stream_without_norm(dy, cache):
    du, dw1, dw2 = in_parts(dy, *cache[:3], cache[4], stream=0)
    return dy + du, dw1, dw2


@wrong("lin1 and lin2 are in the forward's order: lin2 comes first on the way up")
def forwards(dy, cache):
    lin1, bend, lin2, _, norm = cache
    du, dw2, dw1 = in_parts(dy, lin2, bend, lin1, norm)
    return du, dw1, dw2
