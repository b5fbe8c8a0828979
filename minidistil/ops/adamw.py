"""AdamW: one step of the optimiser, an op without a backward.

With parameter p, gradient g, step number t (the first is 1), learning rate η and decay λ:

    p ← p·(1 − ηλ)                    decoupled decay: λ·p does not enter the means
    m ← m + (1−β₁)(g − m)             running mean of g
    v ← β₂v + (1−β₂)g²                running mean of g²
    p ← p − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)

Clipping by the global norm multiplies all gradients by one number (`global_norm.py`). It is an
argument here, `scale`: g stands for scale·g, and no array of scaled gradients exists.

Both means start at zero and are therefore too small at first: after t steps the weights of the
gradients in them add up to 1−βᵗ, by which the last line divides (bias correction).
Source: Loshchilov & Hutter, "Decoupled weight decay regularization", 2019, algorithm 2, with a
decay of ηλ where the paper has λ; order of operations as in `torch.optim.AdamW`.
"""

import math
from typing import NamedTuple

import numpy as np

from minidistil.ops.kernels.many_arrays_cuda import COUNT, FIRST, TAG, float_at, put_float, table
from minidistil.ops.runtime.cpu import CHUNKS, kernel, prange
from minidistil.ops.runtime.cuda import FLAT, cuda, cuda_kernel, device_empty, float32
from minidistil.ops.runtime.workspace import empty

# ------------------------------------------------------- NumPy: the specification


def update(p, m, v, g, *, lr, beta1, beta2, eps, weight_decay, step, scale=1.0):
    """p, m, v, g of one shape  ->  the new p, a fresh array; m and v change in place."""
    g, new = g * scale, p * (1 - lr * weight_decay)
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * g * g
    denom = np.sqrt(v) / math.sqrt(1 - beta2**step) + eps
    return new - lr / (1 - beta1**step) * (m / denom)


def update_all(arrays, *, weight_decay, **options):
    """arrays: (p, m, v, g, whether p decays), any number of them  ->  yields each new p.

    Lazy: replace each p before taking the next, and no second copy of the model exists.
    """
    for *one, decays in arrays:
        yield update(*one, weight_decay=weight_decay * decays, **options)


# ------------------------------------------------------- Numba: one pass, chunks across cores


class Scalars(NamedTuple):
    """What a step multiplies and adds, in the arrays' own type: a Python float in a kernel would
    make its whole loop float64."""

    decay_factor: float
    step_size: float
    sqrt_bias_correction2: float
    eps: float
    one_minus_beta1: float
    beta2: float
    one_minus_beta2: float
    scale: float

    @classmethod
    def of(cls, dtype, *, lr, beta1, beta2, eps, weight_decay, step, scale=1.0):
        """The scalars of `update`'s options."""
        step_size, root = lr / (1 - beta1**step), math.sqrt(1 - beta2**step)
        scalars = 1 - lr * weight_decay, step_size, root, eps, 1 - beta1, beta2, 1 - beta2, scale
        return cls(*map(dtype, scalars))


def update_cpu(p, m, v, g, **options):
    """As `update`. Each array is read once and written once: memory limits the speed.

    m and v are C-contiguous, so that their flat views share their memory.
    """
    new = empty(p.shape, p.dtype)
    scalars = Scalars.of(p.dtype.type, **options)
    _update_chunks(*(a.reshape(-1) for a in (p, m, v, g, new)), scalars)
    return new


def update_all_cpu(arrays, *, weight_decay, **options):
    """As `update_all`."""
    for *one, decays in arrays:
        yield update_cpu(*one, weight_decay=weight_decay * decays, **options)


@kernel
def _update_chunks(p, m, v, g, new, scalars):
    # Slices that are counted from 0, since an index that might be negative, and would then count
    # from the end, keeps the loop from becoming vector instructions: 3.7 ns a weight, not 0.5.
    n = p.size
    decay_factor, step_size, sqrt_bias_correction2, eps = scalars[:4]
    one_minus_beta1, beta2, one_minus_beta2, scale = scalars[4:]
    for k in prange(CHUNKS):
        a, b = k * n // CHUNKS, (k + 1) * n // CHUNKS
        pk, mk, vk, gk, out = p[a:b], m[a:b], v[a:b], g[a:b], new[a:b]
        for i in range(b - a):
            gi = scale * gk[i]
            mi = mk[i] + one_minus_beta1 * (gi - mk[i])
            vi = beta2 * vk[i] + one_minus_beta2 * gi * gi
            mk[i], vk[i] = mi, vi
            denom = math.sqrt(vi) / sqrt_bias_correction2 + eps
            out[i] = pk[i] * decay_factor - step_size * (mi / denom)


# ------------------------------------------------------- CUDA: all of them in one launch


def update_all_cuda(arrays, **options):
    """As `update_all`, on arrays of the device, all at once."""
    groups, tags = [], []
    for *one, decays in arrays:
        groups.append((*one, device_empty(one[0].shape)))
        tags.append(int(decays))
    where = table(groups, tags)
    _update_kernel[where.shape[0], FLAT](where, Scalars.of(np.float32, **options))
    yield from (group[-1] for group in groups)


@cuda_kernel
def _update_kernel(table, scalars):
    b = cuda.blockIdx.x
    p, m, v = table[b, FIRST], table[b, FIRST + 1], table[b, FIRST + 2]
    g, new = table[b, FIRST + 3], table[b, FIRST + 4]
    decay_factor = scalars.decay_factor if table[b, TAG] else float32(1)
    for i in range(cuda.threadIdx.x, table[b, COUNT], cuda.blockDim.x):
        gi, mi = scalars.scale * float_at(g, i), float_at(m, i)
        mi += scalars.one_minus_beta1 * (gi - mi)
        vi = scalars.beta2 * float_at(v, i) + scalars.one_minus_beta2 * gi * gi
        put_float(m, i, mi)
        put_float(v, i, vi)
        denom = math.sqrt(vi) / scalars.sqrt_bias_correction2 + scalars.eps
        put_float(new, i, float_at(p, i) * decay_factor - scalars.step_size * (mi / denom))
