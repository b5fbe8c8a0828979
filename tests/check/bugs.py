"""Mistakes as people make them in PyTorch: each function computes the right thing unless its bug
is planted. Written apart from `minidistil.check`, which has to recognise their numbers."""

import math

import torch
import torch.nn.functional as F

# Bug names are an id of the catalogue, or one with a form behind a colon.
NORM = ("layernorm-eps:1e-5", "layernorm-eps:1e-3", "layernorm-eps-outside-root",
        "layernorm-unbiased-variance", "layernorm-unbiased-variance:std", "layernorm-gamma-beta",
        "layernorm-gamma-beta:unloaded")  # fmt: skip
ACTIVATION = ("gelu-tanh", "gelu-quick", "activation-relu")
ATTENTION = ("scale-missing", "scale-wrong-dim", "scale-twice", "mask-inverted",
             "mask-inverted:added", "mask-multiplied", "mask-multiplied:weights",
             "mask-too-weak", "mask-too-weak:10", "mask-ignored", "causal-mask", "softmax-axis",
             "softmax-axis:heads", "head-order", "head-order:merge", "qk-swapped")  # fmt: skip
BLOCK = ("pre-norm", "residual-missing", "residual-missing:ffn", "residual-doubled",
         "hidden-before-norm", "weight-untransposed", "weight-untransposed:out", "bias-missing",
         "bias-missing:lin1", "wrong-layers-copied", "dropout-active",
         "dropout-active:seeded")  # fmt: skip
EMBEDDING = ("position-offset", "position-offset:2", "embedding-scaled",
             "token-type-unexpected")  # fmt: skip
HEAD = ("head-untied", "tied-gradient-one-sided", "tied-gradient-one-sided:projection")
EVERYWHERE = NORM + ACTIVATION + ATTENTION + BLOCK + EMBEDDING + HEAD


class Plan:
    """Which bug is planted, and from which layer on."""

    def __init__(self, bug=None):
        self.bug = bug

    def __call__(self, *names):
        return self.bug in names

    # ------------------------------------------------------- LayerNorm and activation

    def norm(self, x, gamma, beta, right):
        mean, d = x.mean(-1, keepdim=True), x - x.mean(-1, keepdim=True)
        if self("layernorm-eps:1e-5", "layernorm-eps:1e-3"):
            return F.layer_norm(x, x.shape[-1:], gamma, beta, float(self.bug.split(":")[1]))
        if self("layernorm-eps-outside-root"):
            return gamma * d / (x.std(-1, keepdim=True, unbiased=False) + 1e-5) + beta
        if self("layernorm-unbiased-variance"):
            return gamma * d / torch.sqrt(x.var(-1, keepdim=True) + 1e-12) + beta
        if self("layernorm-unbiased-variance:std"):
            return gamma * (x - mean) / (x.std(-1, keepdim=True) + 1e-6) + beta
        if self("layernorm-gamma-beta"):
            gamma, beta = beta, gamma
        if self("layernorm-gamma-beta:unloaded"):
            gamma, beta = torch.ones_like(gamma), torch.zeros_like(beta)
        return right(x, gamma, beta)

    def activation(self, x, right):
        if self("gelu-tanh"):
            return F.gelu(x, approximate="tanh")
        if self("gelu-quick"):
            return x * torch.sigmoid(1.702 * x)
        return torch.relu(x) if self("activation-relu") else right(x)

    # ------------------------------------------------------- attention

    def divisor(self, dim, channels):
        """What the scores are divided by."""
        if self("scale-missing"):
            return 1.0
        if self("scale-wrong-dim"):
            return math.sqrt(channels)
        return float(dim) if self("scale-twice") else math.sqrt(dim)

    def swapped(self, q, k):
        return (k, q) if self("qk-swapped") else (q, k)

    def weights(self, s, mask, right):
        """Scores (B,H,T,T), mask (B,T) bool  ->  weights."""
        m = mask[:, None, None, :]
        if self("mask-inverted"):
            return s.masked_fill(m, torch.finfo(s.dtype).min).softmax(-1)
        if self("mask-inverted:added"):
            return (s + m.to(s.dtype) * -10000.0).softmax(-1)
        if self("mask-multiplied"):
            return (s * m).softmax(-1)
        if self("mask-multiplied:weights"):
            return s.softmax(-1) * m
        if self("mask-too-weak", "mask-too-weak:10"):
            return (s + (1.0 - m.to(s.dtype)) * (-10.0 if ":" in self.bug else -1.0)).softmax(-1)
        if self("mask-ignored"):
            return s.softmax(-1)
        if self("causal-mask"):
            seen = torch.ones(s.shape[-2:], dtype=torch.bool).tril() & m
            return s.masked_fill(~seen, float("-inf")).softmax(-1)
        if self("softmax-axis", "softmax-axis:heads"):
            s = s.masked_fill(~m, torch.finfo(s.dtype).min)
            return s.softmax(1 if ":" in self.bug else 2)
        return right(s, m)

    # ------------------------------------------------------- blocks

    def residual(self, x, y, half):
        if self("residual-missing") or (self("residual-missing:ffn") and half == "ffn"):
            return y
        return x + (x + y) if self("residual-doubled") else x + y

    def weight(self, w, site):
        """A weight (out, in) as it is used."""
        if self("weight-untransposed") and site in "qkv":
            return w.T
        return w.T if self("weight-untransposed:out") and site == "out" else w

    def bias(self, b, site):
        if self("bias-missing") and site in "qkv":
            return torch.zeros_like(b)
        return torch.zeros_like(b) if self("bias-missing:lin1") and site == "lin1" else b

    def layer(self, i, layers):
        """Whose parameters the block i gets."""
        return (i + 1) % layers if self("wrong-layers-copied") else i

    def dropout(self, x):
        if self("dropout-active:seeded"):
            keep = torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) > 0.1
            return x * keep / 0.9
        return F.dropout(x, 0.1) if self("dropout-active") else x

    # ------------------------------------------------------- embeddings and heads

    def positions(self, T):
        offset = 2 if self("position-offset:2") else 1 if self("position-offset") else 0
        return torch.arange(T) + offset

    def embedded(self, word, position):
        """The sum; word (B,T,C) and position (T,C) are looked up already."""
        root = math.sqrt(word.shape[-1])
        if self("embedding-scaled"):
            return word * root + position
        return (word + position) * root if self("embedding-scaled:sum") else word + position

    def looked_up(self, table):
        return table.detach() if self("tied-gradient-one-sided:projection") else table

    def projected(self, table, other):
        """The table that scores the words; `other` is one of the module's own."""
        if self("head-untied"):
            return other
        return table.detach() if self("tied-gradient-one-sided") else table
