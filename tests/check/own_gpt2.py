"""A GPT-2 as its own author writes it: other names, one matrix for q, k and v or three, a cache for
generation. Each mistake of BUGS can be planted."""

import math

import torch
import torch.nn.functional as F
from torch import nn

# {bug: the id that names it, None for one outside the catalogue}
BUGS = {
    "no causal mask": "causal-mask-missing", "sees one later": "causal-mask-shifted",
    "does not see itself": "causal-mask-shifted", "triu": "causal-mask-reversed",
    "weak causal mask": "causal-mask-too-weak", "conv1d untransposed": "weight-untransposed",
    "norm after": "post-norm", "norm after sublayer": "post-norm",
    "residual of the normed": "residual-normed", "parallel": "parallel-sublayers",
    "no final norm": "layernorm-missing", "exact gelu": "gelu-exact",
    "positions from 1": "position-offset", "cached positions": "position-past",
    "labels not shifted": "label-shift-missing", "labels shifted twice": "label-shift-doubled",
    "scaled embeddings": "embedding-scaled", "no scale": "scale-missing",
    "heads interleaved": "head-order", "eps": "layernorm-eps", "untied": "head-untied",
    "one layer less": None, "k and v swapped": None, "logits halved": None, "last bias lost": None,
    "table detached": "tied-gradient-one-sided",
}  # fmt: skip


class Attend(nn.Module):
    def __init__(self, weights, at, heads, style):
        super().__init__()
        qkv, bias = weights[f"{at}.attn.c_attn.weight"], weights[f"{at}.attn.c_attn.bias"]
        self.heads, self.style = heads, style
        if style == "separate":
            for name, w, b in zip("qkv", qkv.chunk(3, 1), bias.chunk(3), strict=True):
                setattr(self, f"to_{name}", linear(w.T, b))
        elif style == "conv1d":
            self.qkv_w, self.qkv_b = nn.Parameter(qkv.clone()), nn.Parameter(bias.clone())
        else:
            self.qkv = linear(qkv.T, bias)
        out = weights[f"{at}.attn.c_proj.weight"], weights[f"{at}.attn.c_proj.bias"]
        self.proj = linear(out[0].T, out[1])

    def project(self, x):
        if self.style == "separate":
            return self.to_q(x), self.to_k(x), self.to_v(x)
        if self.style == "conv1d":
            return (x @ self.qkv_w + self.qkv_b).split(x.shape[-1], -1)
        return self.qkv(x).chunk(3, -1)

    def forward(self, x, pad, bug):
        B, T, C = x.shape
        q, k, v = self.project(x)
        if bug == "k and v swapped":
            k, v = v, k

        def parts(z):
            if bug == "heads interleaved":
                return z.view(B, T, C // self.heads, self.heads).permute(0, 3, 1, 2)
            return z.view(B, T, self.heads, -1).transpose(1, 2)

        q, k, v = parts(q), parts(k), parts(v)
        if self.style == "sdpa" and bug is None and pad is None:
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        else:
            s = q @ k.mT * (1 if bug == "no scale" else 1 / math.sqrt(q.shape[-1]))
            y = self.weights(s, pad, bug) @ v
        if bug == "heads interleaved":
            y = y.permute(0, 2, 3, 1).reshape(B, T, C)
        else:
            y = y.transpose(1, 2).reshape(B, T, C)
        weight = self.proj.weight.T if bug == "conv1d untransposed" else self.proj.weight
        return F.linear(y, weight, self.proj.bias)

    def weights(self, s, pad, bug):
        T = s.shape[-1]
        seen = torch.ones(T, T, dtype=torch.bool)
        if bug == "triu":
            seen = seen.triu()
        elif bug != "no causal mask":
            seen = seen.tril({"sees one later": 1, "does not see itself": -1}.get(bug, 0))
        if bug == "weak causal mask":
            return (s - 10.0 * (~seen).to(s.dtype)).softmax(-1)
        if pad is not None:
            seen = seen & ~pad[:, None, None, :]
        low = float("-inf") if bug is None and pad is None else torch.finfo(s.dtype).min
        return s.masked_fill(~seen, low).softmax(-1)


def linear(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def norm(weights, at, eps=1e-5):
    layer = nn.LayerNorm(len(weights[f"{at}.weight"]), eps)
    layer.weight.data, layer.bias.data = (
        weights[f"{at}.weight"].clone(),
        weights[f"{at}.bias"].clone(),
    )
    return layer


class Layer(nn.Module):
    def __init__(self, weights, at, heads, style, bug):
        super().__init__()
        eps = 1e-3 if bug == "eps" else 1e-5
        self.before_attend, self.before_think = (
            norm(weights, f"{at}.{n}", eps) for n in ("ln_1", "ln_2")
        )
        self.attend = Attend(weights, at, heads, style)
        self.widen, self.narrow = (
            linear(weights[f"{at}.mlp.{n}.weight"].T, weights[f"{at}.mlp.{n}.bias"])
            for n in ("c_fc", "c_proj")
        )

    def think(self, x, bug):
        h = self.widen(x)
        if bug == "exact gelu":
            return self.narrow(F.gelu(h))
        return self.narrow(
            0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
        )

    def forward(self, x, pad, bug):
        if bug == "norm after":
            x = self.before_attend(x + self.attend(x, pad, bug))
            return self.before_think(x + self.think(x, bug))
        if bug == "norm after sublayer":
            x = x + self.before_attend(self.attend(x, pad, bug))
            return x + self.before_think(self.think(x, bug))
        if bug == "parallel":
            y = self.attend(self.before_attend(x), pad, bug)
            return x + y + self.think(self.before_think(x), bug)
        if bug == "residual of the normed":
            x = self.before_attend(x)
            x = x + self.attend(x, pad, bug)
            x = self.before_think(x)
            return x + self.think(x, bug)
        x = x + self.attend(self.before_attend(x), pad, bug)
        return x + self.think(self.before_think(x), bug)


class Speaker(nn.Module):
    """forward(idx, padding_mask=None, labels=None)  ->  logits, and the loss with labels."""

    def __init__(self, weights, heads, style="fused", bug=None):
        super().__init__()
        w = {name.removeprefix("transformer."): x for name, x in weights.items()}
        self.bug = bug
        self.vocab, self.places = (nn.Parameter(w[f"{n}.weight"].clone()) for n in ("wte", "wpe"))
        depth = 1 + max(int(n.split(".")[1]) for n in w if n.startswith("h."))
        self.layers = nn.ModuleList(
            Layer(w, f"h.{i}", heads, style, bug) for i in range(depth - (bug == "one layer less"))
        )
        self.final = norm(w, "ln_f")
        if bug == "untied":
            torch.manual_seed(0)
            self.unembed = nn.Parameter(torch.randn_like(self.vocab))
        if bug == "last bias lost":
            self.layers[-1].narrow.bias.data.zero_()

    def forward(self, idx, padding_mask=None, labels=None):
        bug, T = self.bug, idx.shape[1]
        place = torch.arange(T) + (bug == "positions from 1")
        if bug == "cached positions":  # the prompt, then one token at a time
            place = torch.cat([torch.arange(T // 2), torch.arange(T - T // 2)])
        x = self.vocab[idx] * (math.sqrt(self.vocab.shape[1]) if bug == "scaled embeddings" else 1)
        x = x + self.places[place]
        for layer in self.layers:
            x = layer(x, padding_mask, bug)
        x = x if bug == "no final norm" else self.final(x)
        table = self.unembed if bug == "untied" else self.vocab
        logits = x @ (table.detach() if bug == "table detached" else table).T
        logits = logits / 2 if bug == "logits halved" else logits
        if labels is None:
            return logits
        z, y = logits[:, :-1], labels[:, 1:]
        if bug == "labels not shifted":
            z, y = logits, labels
        if bug == "labels shifted twice":
            z, y = logits[:, :-2], labels[:, 2:]
        return logits, F.cross_entropy(z.flatten(0, 1), y.flatten(), ignore_index=-100)


class Unpadded(Speaker):
    """A Speaker for texts of one length, whose targets are shifted in the data."""

    def forward(self, idx, targets=None):
        logits = super().forward(idx)
        if targets is None:
            return logits, None
        return logits, F.cross_entropy(logits.flatten(0, 1), targets.flatten())
