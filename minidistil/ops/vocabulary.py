"""The vocabulary head with its losses: logits live for a few rows at a time, never all of them.

With z = x·Wᵀ + b and the teacher's logits t, both (N,V), and M the rows that have a label:

    y = α_ce·ce + α_mlm·mlm + α_mse·mse

    ce  = τ²·mean_N KL(softmax(t/τ) ‖ softmax(z/τ))      mse = Σ (z − t)² / N
    mlm = mean_M lse(z) − z[label]

Once a row of z is there, so is its part of the gradient:

    ∂z = α_ce·τ/N·(softmax(z/τ) − softmax(t/τ)) + 2·α_mse/N·(z − t)
         + α_mlm/|M|·(softmax(z) − onehot(label))  where n ∈ M

    ∂x = ∂z·W          ∂W = ∂zᵀ·x          ∂b = Σ_n ∂z[n]

So forward goes through the rows in chunks, turns each chunk of z into ∂z in place and adds up the
three products; backward only scales them. For DistilBERT's 30,522 words and a thousand tokens, z
and t alone would be 250 MB.
Sources: those of `cross_entropy`, `kl_div` and `mse`, whose composition this is.
"""

from typing import NamedTuple

import numpy as np

from minidistil.ops import cross_entropy, kl_div, linear, mse
from minidistil.ops._cpu import kernel, prange
from minidistil.ops._gemm import matmul
from minidistil.ops._memory import empty, zeros
from minidistil.ops.cross_entropy import BLOCK, add_softmax, exp_sum, surprise
from minidistil.ops.kl_div import add_difference, divergence
from minidistil.ops.mse import add_error, squared_distance

IGNORED = -100
ROWS = 256  # of a chunk: enough for the products to run at full speed, 31 MB of BERT's logits
WORDS = 24 * 256  # of ∂z·W at a time: the product packs its right factor, here 19 MB and not all W


class Kept(NamedTuple):
    """The losses before weighting, and the gradient of their weighted sum."""

    parts: dict  # of "ce", "mlm" and "mse", those whose alpha is not 0
    dx: np.ndarray  # (N,C)
    dweight: np.ndarray  # (V,C)
    dbias: np.ndarray  # (V,)


# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0, alpha_mlm=0.0,
            alpha_mse=0.0):  # fmt: skip
    """x (N,C), weight (V,C), bias (V,)  ->  y (), cache with `parts`.

    labels: (N,) integers, −100 where there is none. teacher: a function from a slice of the rows
    to their logits (·,V). A loss whose alpha is 0 is not computed. Raises ValueError where a loss
    lacks its labels or its teacher.
    """
    _check(len(x), labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    z, head = linear.forward(x, weight, bias)
    t = teacher(slice(0, len(x))).astype(x.dtype) if alpha_ce or alpha_mse else None
    losses = {
        "ce": (alpha_ce, kl_div, {"teacher": t, "tau": tau}),
        "mlm": (alpha_mlm, cross_entropy, {"labels": labels}),
        "mse": (alpha_mse, mse, {"target": t, "reduction": "batchmean"}),
    }
    parts, dz = {}, np.zeros_like(z)
    for name, (alpha, op, fixed) in losses.items():
        if alpha:
            parts[name], cache = op.forward(z, **fixed)
            dz += op.backward(x.dtype.type(alpha), cache)[0]
    y = sum(losses[name][0] * part for name, part in parts.items())
    return x.dtype.type(y), Kept(parts, *linear.backward(dz, head))


def backward(dy, cache):
    """dy (), cache  ->  dx (N,C), dweight (V,C), dbias (V,)."""
    return tuple(gradient * dy for gradient in cache[1:])


def _check(N, labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse):
    if not (alpha_ce or alpha_mlm or alpha_mse):
        raise ValueError("every alpha is 0: there is nothing to learn from")
    if (alpha_ce or alpha_mse) and teacher is None:
        raise ValueError(f"alpha_ce {alpha_ce} and alpha_mse {alpha_mse} need a teacher; give one")
    if not tau > 0:
        raise ValueError(f"temperature must be above 0, not {tau}")
    if alpha_mlm and (labels is None or (labels == IGNORED).all()):
        raise ValueError(f"alpha_mlm {alpha_mlm} needs a label, none of {N} rows has one")


# ------------------------------------------------------- Numba: chunks of rows


def forward_cpu(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    _check(len(x), labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    N, V = len(x), len(weight)
    labels = np.full(N, IGNORED) if labels is None or not alpha_mlm else labels
    M = max(1, np.count_nonzero(labels != IGNORED))
    factors = [np.float32(a) for a in (alpha_ce * tau / N, alpha_mlm / M, 2 * alpha_mse / N)]
    sums = np.zeros((N, 3))  # of each row: KL, surprise at the label, squared error
    dx, dweight, dbias = empty(x.shape), zeros(weight.shape), np.zeros(V, np.float32)
    logits = empty((min(ROWS, N), V))
    for start in range(0, N, ROWS):
        rows = slice(start, min(start + ROWS, N))
        z = matmul(x[rows], weight.T, out=logits[: rows.stop - start], bias=bias)
        t = teacher(rows).astype(np.float32, copy=False) if alpha_ce or alpha_mse else z
        _turn_into_gradient(z, t, labels[rows], np.float32(1 / tau), *factors, sums[rows])
        t = None  # its memory is the next chunk's
        for v in range(0, V, WORDS):
            matmul(z[:, v : v + WORDS], weight[v : v + WORDS], out=dx[rows], add=v > 0)
        matmul(z.T, x[rows], out=dweight, add=True)
        dbias += linear.column_sums(z)
    ce, mlm, mse_ = sums.sum(axis=0)
    parts = {"ce": (alpha_ce, tau**2 * ce / N), "mlm": (alpha_mlm, mlm / M),
             "mse": (alpha_mse, mse_ / N)}  # fmt: skip
    y = sum(alpha * part for alpha, part in parts.values() if alpha)
    parts = {name: np.float32(part) for name, (alpha, part) in parts.items() if alpha}
    return np.float32(y), Kept(parts, dx, dweight, dbias)


@kernel
def _turn_into_gradient(z, t, labels, cool, soft, hard, squared, sums):
    # First every sum over a row of z, then ∂z in its place: a block at a time, so that what the
    # three losses add lies in the first-level cache. A loss of factor 0 is not looked at.
    for n in prange(len(z)):
        zn, tn, label = z[n], t[n], labels[n]
        labelled = label != IGNORED
        soft_sums, d = np.empty(4, np.float32), np.empty(BLOCK, np.float32)
        top = total = np.float32(1)
        if soft != 0:
            sums[n, 0] = divergence(zn, tn, cool, soft_sums)
        if labelled:
            top, total = exp_sum(zn, np.float32(1))
            sums[n, 1] = surprise(zn[label], top, total)
        if squared != 0:
            sums[n, 2] = squared_distance(zn, tn)
        for start in range(0, len(zn), BLOCK):
            zb, tb = zn[start : start + BLOCK], tn[start : start + BLOCK]
            dz = d[: len(zb)]
            for j in range(len(dz)):
                dz[j] = 0
            if soft != 0:
                add_difference(zb, tb, cool, soft_sums, soft, dz)
            if labelled:
                add_softmax(zb, top, hard / total, dz)
            if squared != 0:
                add_error(zb, tb, squared, dz)
            for j in range(len(zb)):
                zb[j] = dz[j]
        if labelled:
            zn[label] -= hard


def backward_cpu(dy, cache):
    if dy == 1:
        return tuple(cache[1:])
    return tuple(gradient * np.float32(dy) for gradient in cache[1:])
