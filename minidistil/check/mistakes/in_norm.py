"""Mistakes in LayerNorm: ε, the variance, γ and β."""

import numpy as np

from minidistil.check.mistakes.registry import mistake
from minidistil.check.reference_ops import layernorm

EPSILONS = (1e-2, 1e-3, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-12, 0.0)
OUTSIDE = (1e-3, 1e-5, 1e-6, 1e-8)  # values common beside torch.std
RIGHT = "y = γ·(x − μ)/√(σ² + ε) + β,  σ² = mean((x − μ)²)"


def _centred(x):
    return x - x.mean(axis=-1, keepdims=True)


@mistake(
    "layernorm-eps", "layernorm", values=EPSILONS,
    says="LayerNorm uses ε = {}; the model's config has another value.",
    yours="y = γ·(x − μ)/√(σ² + {}) + β", right=RIGHT,
    fix="ε is the config's: 1e-12 for BERT and DistilBERT (PyTorch's nn.LayerNorm has 1e-5)",
)  # fmt: skip
def another_eps(x, gamma, beta, *, eps, value):
    return layernorm(x, gamma, beta, eps=value)


@mistake(
    "layernorm-eps-outside-root", "layernorm", values=EPSILONS[:-1],
    says="LayerNorm adds ε = {} to the standard deviation, outside the root.",
    yours="y = γ·(x − μ)/(√σ² + {}) + β", right=RIGHT,
    fix="add ε to the variance, then take the root",
)  # fmt: skip
def eps_outside_root(x, gamma, beta, *, eps, value):
    d = _centred(x)
    return gamma * d / (np.sqrt((d * d).mean(axis=-1, keepdims=True)) + value) + beta


@mistake(
    "layernorm-unbiased-variance", "layernorm",
    values=("the model's", *EPSILONS, *(f"{e:g} outside the root" for e in OUTSIDE)),
    says="LayerNorm divides the variance by C − 1 instead of C (ε: {}).",
    yours="σ² = Σ(x − μ)²/(C − 1)", right=RIGHT,
    fix="divide by C (PyTorch's var and std divide by C − 1 unless unbiased=False)",
)  # fmt: skip
def unbiased_variance(x, gamma, beta, *, eps, value):
    d = _centred(x)
    variance = (d * d).sum(axis=-1, keepdims=True) / (x.shape[-1] - 1)
    if isinstance(value, str) and value.endswith("root"):
        return gamma * d / (np.sqrt(variance) + float(value.split()[0])) + beta
    eps = value if isinstance(value, float) else eps
    return gamma * d / np.sqrt(variance + eps) + beta


GAMMA_BETA = {
    "γ and β are swapped": lambda gamma, beta: (beta, gamma),
    "γ is 1 and β is 0, their initial values": lambda gamma, beta: (np.ones_like(gamma), 0 * beta),
    "γ is 1, its initial value": lambda gamma, beta: (np.ones_like(gamma), beta),
    "β is 0, its initial value": lambda gamma, beta: (gamma, 0 * beta),
}


@mistake(
    "layernorm-gamma-beta", "layernorm", values=tuple(GAMMA_BETA),
    says="LayerNorm has the wrong scale and shift: {}.",
    yours="y = γ′·x̂ + β′: {}", right="y = γ·x̂ + β,  γ is `weight`, β is `bias`",
    fix="copy `LayerNorm.weight` into the scale and `LayerNorm.bias` into the shift",
)  # fmt: skip
def gamma_beta(x, gamma, beta, *, eps, value):
    return layernorm(x, *GAMMA_BETA[value](gamma, beta), eps=eps)


@mistake(
    "rms-norm", "layernorm", values=("with β", "without β"),
    says="The norm is RMSNorm {}: the mean is not subtracted.",
    yours="y = γ·x/√(mean(x²) + ε)", right=RIGHT,
    fix="subtract the mean of each token's channels (in PyTorch nn.LayerNorm, not nn.RMSNorm)",
)  # fmt: skip
def rms_norm(x, gamma, beta, *, eps, value):
    y = gamma * x / np.sqrt((x * x).mean(axis=-1, keepdims=True) + eps)
    return y + beta if value == "with β" else y


AXES = {"a text's tokens and channels": (1, 2), "a text's tokens": 1, "the batch": 0,
        "the whole batch": (0, 1, 2)}  # fmt: skip


@mistake(
    "layernorm-axis", "layernorm", values=tuple(AXES),
    says="LayerNorm's mean and variance run over {}, not over the channels of one token.",
    yours="μ, σ² over {}", right=RIGHT,
    fix="the mean and the variance of the last axis alone (in PyTorch normalized_shape = C)",
)  # fmt: skip
def other_axes(x, gamma, beta, *, eps, value):
    axes = AXES[value]
    variance = x.var(axis=axes, keepdims=True)
    return gamma * (x - x.mean(axis=axes, keepdims=True)) / np.sqrt(variance + eps) + beta


@mistake(
    "layernorm-missing", "layernorm",
    says="A LayerNorm is missing.",
    yours="y = x", right=RIGHT,
    fix="apply the LayerNorm whose weights are in the folder",
)  # fmt: skip
def missing(x, gamma, beta, *, eps):
    return x
