"""How far a float32 matrix product may be from the exact one, also where it has few numbers.

`minidistil.testing.compare` estimates what float32 costs from a reference's own error. From four
numbers that is no estimate: they may all be rounded luckily on one processor and not on another.
Error analysis needs no luck. A sum s_K = ((s_1 + p_2) + p_3) + … of products p_k rounds each
partial sum by δ_k·s_k with |δ_k| ≤ u = 2⁻²⁴, and the δ_k are as good as independent with mean zero,
so by Hoeffding's inequality

    |computed − exact|  ≤  λ·u·√(Σ_k s_k² + p_k²)      but for one case in ½·e^{λ²/2}.

λ = 6 allows one entry in 30 million more. (Higham and Mary, "A new approach to probabilistic
rounding error analysis", SIAM J. Sci. Comput. 41, 2019.) Sums in blocks or in lanes have smaller
partial sums, and so stay below it, too.
"""

import numpy as np

from minidistil.testing import compare

FEW = 64  # numbers, from which no rms error is estimated
LAMBDA, UNIT = 6, 2.0**-24


def compare_product(name, c, reference, a, b, bias=0.0):
    """Assert that c (M,N) is a (M,K)·b (K,N) + bias up to the rounding of a float32 sum.

    reference: another float32 answer, which judges where c has enough numbers.
    """
    a, b, bias = (np.asarray(x, np.float64) for x in (a, b, bias))
    exact = a @ b + bias
    if c.size >= FEW:
        compare(name, c, reference, exact)
        return
    assert c.shape == exact.shape, f"{name}: shape {c.shape}, expected {exact.shape}"
    products = a[:, :, None] * b  # (M,K,N)
    sums = np.concatenate([np.cumsum(products, axis=1), exact[:, None]], axis=1)  # (M,K+1,N)
    allowed = LAMBDA * UNIT * np.sqrt((sums**2).sum(axis=1) + (products**2).sum(axis=1))
    far = np.abs(c - exact) - allowed
    worst = np.unravel_index(far.argmax(), far.shape) if far.size else ()
    assert not (far > 0).any(), (
        f"{name}: error {abs(c - exact)[worst]:.2e} at {tuple(map(int, worst))}, "
        f"allowed {allowed[worst]:.2e} (size {abs(exact[worst]):.2e})"
    )
