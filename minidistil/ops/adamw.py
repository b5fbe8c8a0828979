"""AdamW: one step of the optimiser, an op without a backward.

With gradient g, step number t (the first is 1), learning rate η and decay λ:

    p ← p·(1 − ηλ)                    decay acts on the weight itself, past the moments
    m ← m + (1−β₁)(g − m)             running mean of g
    v ← β₂v + (1−β₂)g²                running mean of g²
    p ← p − η/(1−β₁ᵗ) · m / (√v/√(1−β₂ᵗ) + ε)

Both means start at zero and so are too small at first: after t steps their weights add up to
1−βᵗ, by which they are divided. The order of operations is PyTorch's (torch.optim.AdamW).
Loshchilov & Hutter 2019, algorithm 2, which decays by λ where this decays by ηλ.
"""

import math

import numpy as np

from minidistil.ops.kernels.many_arrays_cuda import COUNT, FIRST, TAG, float_at, put_float, table
from minidistil.ops.runtime.cpu import CHUNKS, kernel, prange
from minidistil.ops.runtime.cuda import FLAT, cuda, cuda_kernel, device_empty, float32

# ------------------------------------------------------- NumPy: the specification


def update(p, m, v, g, *, lr, beta1, beta2, eps, weight_decay, t):
    """p, m, v, g of one shape  ->  the new p, a fresh array; m and v change in place."""
    new = p * (1 - lr * weight_decay)
    m += (1 - beta1) * (g - m)
    v *= beta2
    v += (1 - beta2) * g * g
    denom = np.sqrt(v) / math.sqrt(1 - beta2**t) + eps
    return new - lr / (1 - beta1**t) * (m / denom)


def update_all(arrays, *, weight_decay, **step):
    """arrays: (p, m, v, g, whether p decays), any number of them  ->  yields each new p.

    One is made when it is asked for: whoever takes it before the next never holds two models.
    """
    for *one, decays in arrays:
        yield update(*one, weight_decay=weight_decay * decays, **step)


# ------------------------------------------------------- Numba: one pass, chunks across cores


def update_cpu(p, m, v, g, *, lr, beta1, beta2, eps, weight_decay, t):
    """As `update`. Each array is read once and written once: the step is bound by memory.

    m and v are C-contiguous, so that their flat views share their memory.
    """
    new = np.empty(p.shape, p.dtype)
    step, root = lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
    # In the arrays' own type: a bare Python float would pull the whole loop up to float64.
    scalars = [p.dtype.type(s) for s in (1 - lr * weight_decay, step, root, eps)]
    betas = [p.dtype.type(s) for s in (1 - beta1, beta2, 1 - beta2)]
    _update_chunks(*(a.reshape(-1) for a in (p, m, v, g, new)), *scalars, *betas)
    return new


def update_all_cpu(arrays, *, weight_decay, **step):
    """As `update_all`."""
    for *one, decays in arrays:
        yield update_cpu(*one, weight_decay=weight_decay * decays, **step)


@kernel
def _update_chunks(p, m, v, g, new, keep, step, root, eps, rest1, beta2, rest2):
    # Slices that are counted from 0, since an index that might be negative, and would then count
    # from the end, keeps the loop from becoming vector instructions: 3.7 ns a weight, not 0.5.
    n = p.size
    for k in prange(CHUNKS):
        a, b = k * n // CHUNKS, (k + 1) * n // CHUNKS
        pk, mk, vk, gk, out = p[a:b], m[a:b], v[a:b], g[a:b], new[a:b]
        for i in range(b - a):
            mi = mk[i] + rest1 * (gk[i] - mk[i])
            vi = beta2 * vk[i] + rest2 * gk[i] * gk[i]
            mk[i], vk[i] = mi, vi
            out[i] = pk[i] * keep - step * (mi / (math.sqrt(vi) / root + eps))


# ------------------------------------------------------- CUDA: all of them in one launch


def update_all_cuda(arrays, *, lr, beta1, beta2, eps, weight_decay, t):
    """As `update_all`, on arrays of the device, all at once."""
    groups, tags = [], []
    for *one, decays in arrays:
        groups.append((*one, device_empty(one[0].shape)))
        tags.append(int(decays))
    where, step, root = table(groups, tags), lr / (1 - beta1**t), math.sqrt(1 - beta2**t)
    scalars = (1 - lr * weight_decay, step, root, eps, 1 - beta1, beta2, 1 - beta2)
    _update_kernel[where.shape[0], FLAT](where, *map(np.float32, scalars))
    yield from (group[-1] for group in groups)


@cuda_kernel
def _update_kernel(table, decayed, step, root, eps, rest1, beta2, rest2):
    b = cuda.blockIdx.x
    p, m, v = table[b, FIRST], table[b, FIRST + 1], table[b, FIRST + 2]
    g, new = table[b, FIRST + 3], table[b, FIRST + 4]
    keep = decayed if table[b, TAG] else float32(1)
    for i in range(cuda.threadIdx.x, table[b, COUNT], cuda.blockDim.x):
        gi, mi = float_at(g, i), float_at(m, i)
        mi += rest1 * (gi - mi)
        vi = beta2 * float_at(v, i) + rest2 * gi * gi
        put_float(m, i, mi)
        put_float(v, i, vi)
        put_float(new, i, float_at(p, i) * keep - step * (mi / (math.sqrt(vi) / root + eps)))
