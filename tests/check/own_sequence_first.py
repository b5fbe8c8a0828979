"""A DistilBERT for masked words with time as the first axis and every sublayer in wrappers of
wrappers, written apart from the package."""

import math

import torch
import torch.nn.functional as F
from torch import nn


class Affine(nn.Module):
    """y = x·W + b, W stored (in, out)."""

    def __init__(self, state, name):
        super().__init__()
        self.matrix = nn.Parameter(state[name + ".weight"].t().contiguous())
        self.shift = nn.Parameter(state[name + ".bias"].clone())

    def forward(self, x):
        return x @ self.matrix + self.shift


class Standardise(nn.Module):
    """LayerNorm from moments."""

    def __init__(self, state, name):
        super().__init__()
        self.gain = nn.Parameter(state[name + ".weight"].clone())
        self.shift = nn.Parameter(state[name + ".bias"].clone())

    def forward(self, x):
        mean = x.mean(dim=2, keepdim=True)
        power = (x * x).mean(dim=2, keepdim=True)
        spread = torch.sqrt(power - mean * mean + 1e-12)
        return (x - mean) / spread * self.gain + self.shift


class Skip(nn.Module):
    """Norm(x + sublayer(x))."""

    def __init__(self, inner, norm):
        super().__init__()
        self.inner, self.norm = inner, norm

    def forward(self, x, **given):
        y = self.inner(x, **given)
        return self.norm(x + y)


class Attention(nn.Module):
    """x (T,B,C): heads and texts share one axis."""

    def __init__(self, state, at, n_heads):
        super().__init__()
        self.query = Affine(state, at + "q_lin")
        self.key = Affine(state, at + "k_lin")
        self.value = Affine(state, at + "v_lin")
        self.mix = Affine(state, at + "out_lin")
        self.heads = n_heads

    def forward(self, x, absent):
        T, B, C = x.shape
        size = C // self.heads
        q = self.query(x).view(T, B * self.heads, size).transpose(0, 1)
        k = self.key(x).view(T, B * self.heads, size).transpose(0, 1)
        v = self.value(x).view(T, B * self.heads, size).transpose(0, 1)
        scores = torch.bmm(q, k.transpose(1, 2)) / math.sqrt(size)
        hidden = absent.repeat_interleave(self.heads, dim=0).unsqueeze(1)
        scores = scores.masked_fill(hidden, float("-inf"))
        shares = torch.softmax(scores, dim=2)
        y = torch.bmm(shares, v)
        y = y.transpose(0, 1).reshape(T, B, C)
        return self.mix(y)


class FeedForward(nn.Module):
    def __init__(self, state, at):
        super().__init__()
        self.up = Affine(state, at + "lin1")
        self.down = Affine(state, at + "lin2")

    def forward(self, x):
        z = self.up(x)
        z = 0.5 * z * (1 + torch.erf(z / math.sqrt(2)))
        return self.down(z)


class SequenceFirstEncoder(nn.Module):
    def __init__(self, state, n_heads):
        super().__init__()
        e = "distilbert.embeddings."
        self.table = nn.Parameter(state[e + "word_embeddings.weight"].clone())
        self.places = nn.Parameter(state[e + "position_embeddings.weight"].clone())
        self.first = Standardise(state, e + "LayerNorm")
        self.steps = nn.ModuleList()
        for i in range(1 + max(int(n.split(".")[3]) for n in state if ".layer." in n)):
            at = f"distilbert.transformer.layer.{i}."
            attention = Attention(state, at + "attention.", n_heads)
            self.steps.append(Skip(attention, Standardise(state, at + "sa_layer_norm")))
            feed = FeedForward(state, at + "ffn.")
            self.steps.append(Skip(feed, Standardise(state, at + "output_layer_norm")))
        self.last = Affine(state, "vocab_transform")
        self.last_norm = Standardise(state, "vocab_layer_norm")
        self.bias = nn.Parameter(state["vocab_projector.bias"].clone())

    def forward(self, input_ids, attention_mask):
        tokens = input_ids.t()
        x = self.table[tokens] + self.places[: len(tokens)].unsqueeze(1)
        x = self.first(x)
        absent = attention_mask < 1
        for number, step in enumerate(self.steps):
            given = {"absent": absent} if number % 2 == 0 else {}
            x = step(x, **given)
        z = F.gelu(self.last(x))
        z = self.last_norm(z)
        return (z @ self.table.t() + self.bias).transpose(0, 1)


build = SequenceFirstEncoder
