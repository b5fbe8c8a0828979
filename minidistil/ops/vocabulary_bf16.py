"""The vocabulary head with its losses, the operands of its three products in bfloat16.

`vocabulary.py` with `linear_bf16.py` in place of `linear.py`: x, W and ∂z_s are rounded where they
enter a product. Logits, softmax, losses and all sums are float32.
"""

from minidistil.ops import linear_bf16, vocabulary
from minidistil.ops.kernels.matmul_bf16 import matmul_bf16
from minidistil.ops.kernels.matmul_narrow import linear_bf16 as linear
from minidistil.ops.vocabulary import Losses

# ------------------------------------------------------- NumPy: the specification


def forward(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0, alpha_mlm=0.0,
            alpha_mse=0.0):  # fmt: skip
    """x (N,C), weight (V,C), bias (V,)  ->  y (), cache with `parts`; see `vocabulary.forward`."""
    asked = Losses(labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    return vocabulary.composed(linear_bf16, x, weight, bias, asked)


backward = vocabulary.backward


# ------------------------------------------------------- Numba: chunks of rows


def forward_cpu(x, weight, bias, *, labels=None, teacher=None, tau=2.0, alpha_ce=0.0,
                alpha_mlm=0.0, alpha_mse=0.0):  # fmt: skip
    asked = Losses(labels, teacher, tau, alpha_ce, alpha_mlm, alpha_mse)
    return vocabulary.in_chunks(linear, matmul_bf16, x, weight, bias, asked)


backward_cpu = vocabulary.backward_cpu
