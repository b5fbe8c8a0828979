"""An encoder–decoder as its own author writes it: one attention for all three uses, stored fused or
in three, masks that are True at padding. Each mistake of BUGS can be planted."""

import torch
import torch.nn.functional as F
from torch import nn

BUGS = {
    "padding of the source seen": "cross-mask-ignored",
    "source mask inverted": "cross-mask-inverted", "causal cross": "cross-mask-causal",
    "decoder attends to itself": "cross-source", "memory of the first layer": "cross-source-layer",
    "memory of the embeddings": "cross-source-layer", "no cross": "cross-attention-missing",
    "cross first": "cross-attention-first", "no cross residual": "residual-missing",
    "norms swapped": "cross-norms-swapped", "decoder sees the future": "causal-mask-missing",
    "decoder sees one later": "causal-mask-shifted", "inputs not shifted": "targets-not-shifted",
    "inputs begin with padding": "targets-start-token", "inputs begin with the end":
    "targets-start-token", "inputs shifted twice": "targets-shifted-twice",
    "loss shifted": "label-shift-doubled", "no scale in cross": "scale-missing",
    "tanh gelu": "gelu-tanh", "encoder mask ignored": "mask-ignored", "pre-norm": "pre-norm",
    "cross bias lost": "bias-missing", "keys and values from two places": None,
    "one decoder layer less": None, "memory scaled": None, "memory detached": None,
}  # fmt: skip


class Heads(nn.Module):
    """Attention of a to b."""

    def __init__(self, w, at, names, heads, fused):
        super().__init__()
        parts = [(w[f"{at}.{n}.weight"].clone(), w[f"{at}.{n}.bias"].clone()) for n in names]
        self.heads, self.fused = heads, fused
        if fused:
            self.inside = nn.Parameter(torch.cat([p[0] for p in parts[:3]]))
            self.shift = nn.Parameter(torch.cat([p[1] for p in parts[:3]]))
        else:
            self.q, self.k, self.v = (plain(*p) for p in parts[:3])
        self.o = plain(*parts[3])

    def forward(self, a, b, hidden, scale=True, other=None):
        if self.fused:
            (wq, wk, wv), (bq, bk, bv) = self.inside.chunk(3), self.shift.chunk(3)
            q, k, v = F.linear(a, wq, bq), F.linear(b, wk, bk), F.linear(b, wv, bv)
        else:
            q, k, v = self.q(a), self.k(b), self.v(b if other is None else other)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (q, k, v))
        s = torch.einsum("bhqd,bhkd->bhqk", q, k) * (q.shape[-1] ** -0.5 if scale else 1)
        if hidden is not None:
            s = s.masked_fill(hidden, torch.finfo(s.dtype).min)
        return self.o((s.softmax(-1) @ v).transpose(1, 2).flatten(2))


def plain(weight, bias):
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data, layer.bias.data = weight.clone(), bias.clone()
    return layer


def ln(w, at):
    layer = nn.LayerNorm(len(w[f"{at}.weight"]), 1e-12)
    layer.weight.data, layer.bias.data = w[f"{at}.weight"].clone(), w[f"{at}.bias"].clone()
    return layer


INNER = ("self.query", "self.key", "self.value", "output.dense")


class Step(nn.Module):
    """A layer of either half."""

    def __init__(self, w, at, heads, fused, crossing):
        super().__init__()
        self.own = Heads(w, f"{at}.attention", INNER, heads, fused)
        self.norms = nn.ModuleList([ln(w, f"{at}.attention.output.LayerNorm")])
        if crossing:
            self.other = Heads(w, f"{at}.crossattention", INNER, heads, fused)
            self.norms.append(ln(w, f"{at}.crossattention.output.LayerNorm"))
        self.norms.append(ln(w, f"{at}.output.LayerNorm"))
        self.up, self.down = (
            plain(w[f"{at}.{n}.dense.weight"], w[f"{at}.{n}.dense.bias"])
            for n in ("intermediate", "output")
        )

    def feed(self, x, bug):
        return self.down(F.gelu(self.up(x), approximate="tanh" if bug == "tanh gelu" else "none"))

    def forward(self, x, hidden, memory=None, memory_hidden=None, bug=None):
        if memory is None:
            x = self.norms[0](x + self.own(x, x, hidden))
            return self.norms[1](x + self.feed(x, bug))
        first, second, third = self.norms
        if bug == "norms swapped":
            second, third = third, second
        if bug == "pre-norm":
            n = first(x)
            x = x + self.own(n, n, hidden)
            x = x + self.other(second(x), memory, memory_hidden)
            return x + self.feed(third(x), bug)
        if bug == "cross first":
            x = second(x + self.other(x, memory, memory_hidden))
            x = first(x + self.own(x, x, hidden))
            return third(x + self.feed(x, bug))
        x = first(x + self.own(x, x, hidden))
        if bug == "decoder attends to itself":
            memory, memory_hidden = x, None
        aside = memory.flip(1) if bug == "keys and values from two places" else None
        y = self.other(x, memory, memory_hidden, bug != "no scale in cross", aside)
        if bug != "no cross":
            x = second(y if bug == "no cross residual" else x + y)
        return third(x + self.feed(x, bug))


class Half(nn.Module):
    def __init__(self, w, at, heads, fused, crossing):
        super().__init__()
        e = f"{at}embeddings"
        self.words, self.columns, self.kinds = (
            nn.Parameter(w[f"{e}.{n}_embeddings.weight"].clone())
            for n in ("word", "position", "token_type")
        )
        self.norm = ln(w, f"{e}.LayerNorm")
        depth = 1 + max(int(n.split(".layer.")[1].split(".")[0]) for n in w
                        if n.startswith(f"{at}encoder.layer."))  # fmt: skip
        self.steps = nn.ModuleList(
            Step(w, f"{at}encoder.layer.{i}", heads, fused, crossing) for i in range(depth)
        )

    def embed(self, ids):
        return self.norm(self.words[ids] + self.columns[: ids.shape[1]] + self.kinds[0])


class Translator(nn.Module):
    """forward(src, src_mask, labels)  ->  logits, loss; the decoder's inputs are made of labels."""

    def __init__(self, weights, heads, ends, fused=False, bug=None):
        super().__init__()
        self.bug, (self.pad, self.start, self.end) = bug, ends
        self.reader = Half(weights, "encoder.", heads, fused, False)
        self.writer = Half(weights, "decoder.bert.", heads, fused, True)
        h = "decoder.cls.predictions"
        self.mix = plain(
            weights[f"{h}.transform.dense.weight"], weights[f"{h}.transform.dense.bias"]
        )
        self.mix_norm = ln(weights, f"{h}.transform.LayerNorm")
        self.word_bias = nn.Parameter(weights[f"{h}.bias"].clone())
        if bug == "cross bias lost":
            for step in self.writer.steps:
                step.other.o.bias.data.zero_()
        if bug == "one decoder layer less":
            self.writer.steps = self.writer.steps[:-1]

    def inputs(self, labels):
        bug, filled = self.bug, labels.masked_fill(labels < 0, self.pad)
        if bug == "inputs not shifted":
            return filled
        start = {"inputs begin with padding": self.pad, "inputs begin with the end": self.end}.get(
            bug, self.start
        )
        first = filled.new_full((len(filled), 1), start)
        ids = torch.cat([first, filled[:, :-1]], 1)
        return torch.cat([first, ids[:, :-1]], 1) if bug == "inputs shifted twice" else ids

    def encode(self, src, src_mask):
        gone = (src_mask == 0)[:, None, None, :]
        x = self.reader.embed(src)
        kept = [x]
        for step in self.reader.steps:
            x = step(x, None if self.bug == "encoder mask ignored" else gone, bug=self.bug)
            kept.append(x)
        wanted = {"memory of the first layer": 1, "memory of the embeddings": 0}.get(self.bug, -1)
        x = kept[wanted] * (1.5 if self.bug == "memory scaled" else 1)
        return (x.detach() if self.bug == "memory detached" else x), gone

    def decode(self, ids, memory, gone):
        bug, N = self.bug, ids.shape[1]
        later = torch.ones(N, N, dtype=torch.bool).triu(2 if bug == "decoder sees one later" else 1)
        later = torch.zeros_like(later) if bug == "decoder sees the future" else later
        if bug == "padding of the source seen":
            gone = None
        elif bug == "source mask inverted":
            gone = ~gone
        elif bug == "causal cross":
            gone = gone | torch.ones(N, memory.shape[1], dtype=torch.bool).triu(1)
        y = self.writer.embed(ids)
        for step in self.writer.steps:
            y = step(y, later, memory, gone, bug)
        z = self.mix_norm(F.gelu(self.mix(y)))
        return z @ self.writer.words.T + self.word_bias

    def forward(self, src, src_mask, labels):
        logits = self.decode(self.inputs(labels), *self.encode(src, src_mask))
        z, y = (logits[:, :-1], labels[:, 1:]) if self.bug == "loss shifted" else (logits, labels)
        return logits, F.cross_entropy(z.flatten(0, 1), y.flatten())


class Forced(Translator):
    """forward(source, target_ids, source_padding_mask)  ->  logits; the inputs are given."""

    def forward(self, source, target_ids, source_padding_mask):
        return self.decode(target_ids, *self.encode(source, ~source_padding_mask))
