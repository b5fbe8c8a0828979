"""Mistakes in the activation of the feed-forward sublayer and of the masked-LM head."""

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake

RIGHT = "y = x·½(1 + erf(x/√2))"


@mistake(
    "gelu-tanh", "activation",
    says="GELU is computed with the tanh approximation.",
    yours="y = x·½(1 + tanh(√(2/π)(x + 0.044715x³)))", right=RIGHT,
    fix='use erf (in PyTorch F.gelu(x), approximate="none"); configs call the tanh form "gelu_new"',
)  # fmt: skip
def gelu_tanh(x, *, name="gelu"):
    return reference_ops.activation(x, name="gelu_new")


@mistake(
    "gelu-exact", "activation",
    says="GELU is the exact one; the model's config has another activation.",
    yours=RIGHT, right='the activation of config.json; "gelu_new", as in GPT-2, is '
    "y = x·½(1 + tanh(√(2/π)(x + 0.044715x³)))",
    fix="the tanh form for gelu_new (in PyTorch F.gelu(x, approximate='tanh')); ReLU in "
    "DistilBERT's classifier",
)  # fmt: skip
def gelu_exact(x, *, name="gelu"):
    return reference_ops.activation(x, name="gelu")


@mistake(
    "gelu-quick", "activation",
    says="GELU is replaced by its sigmoid approximation (quick GELU).",
    yours="y = x·σ(1.702x)", right=RIGHT,
    fix="GELU with erf (in PyTorch F.gelu(x)); quick GELU belongs to CLIP",
)  # fmt: skip
def gelu_quick(x, *, name="gelu"):
    return x / (1 + np.exp(-1.702 * x))


@mistake(
    "activation-relu", "activation",
    says="The activation is ReLU.",
    yours="y = max(0, x)", right="the activation of config.json; " + RIGHT,
    fix="GELU where the config says gelu (in PyTorch F.gelu(x))",
)  # fmt: skip
def relu(x, *, name="gelu"):
    return np.maximum(x, 0)


@mistake(
    "activation-other", "activation",
    values=("tanh", "silu", "none"),
    says="The activation is another one: {}.",
    yours="{}", right="the activation of config.json; " + RIGHT,
    fix="GELU where the config says gelu; ReLU in DistilBERT's classifier, tanh in BERT's",
)  # fmt: skip
def other(x, *, name="gelu", value):
    if value == "silu":
        return x / (1 + np.exp(-x))
    if value == "tanh":
        return np.tanh(x)
    return x
