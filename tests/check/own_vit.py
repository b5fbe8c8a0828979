"""A ViT and a DeiT as their own author writes them: patches by a convolution, by unfold or by
reshape, tokens in one buffer. Each mistake of BUGS can be planted."""

import torch
import torch.nn.functional as F
from torch import nn

BUGS = {
    "patches by columns": "patch-order", "patches channels last": "patch-pixels",
    "patches reshaped": "patches-reshaped", "pixels scaled": "pixels-scaled",
    "pixels normalised": "pixels-scaled", "image transposed": "pixels-moved",
    "no cls": "class-token-missing", "cls last": "class-token-last",
    "grid transposed": "positions-of-patches", "grid scrambled": "positions-of-patches",
    "no positions": "positions-of-patches", "cls without position": "positions-of-patches",
    "mean of patches": "pooled-mean", "no final norm": "layernorm-missing",
    "tanh gelu": "gelu-tanh", "eps": "layernorm-eps", "norm after": "post-norm",
    "no scale": "scale-missing", "q bias lost": "bias-missing", "value scaled": None,
    "one block less": None, "head detached": None, "half of the heads": None,
}  # fmt: skip
DEIT_BUGS = {
    "no distillation token": "distillation-token-missing",
    "special tokens swapped": "special-tokens-swapped", "heads swapped": "special-tokens-swapped",
    "cls alone": "heads-not-averaged", "heads summed": "heads-not-averaged",
}  # fmt: skip


def dense(w, at):
    layer = nn.Linear(*reversed(w[f"{at}.weight"].shape))
    layer.weight.data, layer.bias.data = w[f"{at}.weight"].clone(), w[f"{at}.bias"].clone()
    return layer


def norm(w, at, eps):
    layer = nn.LayerNorm(len(w[f"{at}.weight"]), eps)
    layer.weight.data, layer.bias.data = w[f"{at}.weight"].clone(), w[f"{at}.bias"].clone()
    return layer


class Block(nn.Module):
    def __init__(self, w, at, heads, bug):
        super().__init__()
        self.h, self.bug, eps = heads, bug, 1e-6 if bug == "eps" else 1e-12
        parts = [f"{at}.attention.attention.{n}" for n in ("query", "key", "value")]
        self.qkv = nn.Parameter(torch.cat([w[f"{n}.weight"] for n in parts]))
        self.qkv_bias = nn.Parameter(torch.cat([w[f"{n}.bias"] for n in parts]))
        self.mix = dense(w, f"{at}.attention.output.dense")
        self.up, self.down = dense(w, f"{at}.intermediate.dense"), dense(w, f"{at}.output.dense")
        self.ln1 = norm(w, f"{at}.layernorm_before", eps)
        self.ln2 = norm(w, f"{at}.layernorm_after", eps)
        if bug == "q bias lost":
            self.qkv_bias.data[: len(self.qkv_bias) // 3] = 0

    def attend(self, x):
        q, k, v = (
            F.linear(x, self.qkv, self.qkv_bias)
            .unflatten(-1, (3, self.h, -1))
            .permute(2, 0, 3, 1, 4)
        )
        v = v * 0.9 if self.bug == "value scaled" else v
        s = q @ k.transpose(-1, -2)
        s = s if self.bug == "no scale" else s / q.shape[-1] ** 0.5
        y = s.softmax(-1) @ v
        if self.bug == "half of the heads":
            y = torch.cat([y[:, :1], y[:, :1], y[:, 2:]], 1)
        return self.mix(y.transpose(1, 2).flatten(2))

    def feed(self, x):
        form = "tanh" if self.bug == "tanh gelu" else "none"
        return self.down(F.gelu(self.up(x), approximate=form))

    def forward(self, x):
        if self.bug == "norm after":
            x = self.ln1(x + self.attend(x))
            return self.ln2(x + self.feed(x))
        x = x + self.attend(self.ln1(x))
        return x + self.feed(self.ln2(x))


class Looker(nn.Module):
    """forward(img)  ->  logits (B,K)."""

    def __init__(self, weights, heads, cut="conv", bug=None):
        super().__init__()
        kind = "deit" if any(n.startswith("deit.") for n in weights) else "vit"
        w = {n.removeprefix(f"{kind}."): x for n, x in weights.items()}
        self.bug, self.cut, e = bug, cut, "embeddings"
        filters = w[f"{e}.patch_embeddings.projection.weight"].clone()
        self.size, self.channels = filters.shape[-1], filters.shape[1]
        if cut == "reshape":  # a product with the channels of a patch last
            filters = filters.permute(0, 2, 3, 1).flatten(1)
        self.filters = nn.Parameter(filters if cut != "unfold" else filters.flatten(1))
        self.filter_bias = nn.Parameter(w[f"{e}.patch_embeddings.projection.bias"].clone())
        names = ("cls_token", "distillation_token")[: 2 if kind == "deit" else 1]
        self.marks = nn.ParameterList([w[f"{e}.{n}"].clone() for n in names])
        self.where = nn.Parameter(w[f"{e}.position_embeddings"].clone())
        depth = 1 + max(int(n.split(".")[2]) for n in w if n.startswith("encoder.layer."))
        self.blocks = nn.Sequential(*(
            Block(w, f"encoder.layer.{i}", heads, bug)
            for i in range(depth - (bug == "one block less"))
        ))  # fmt: skip
        self.last = norm(w, "layernorm", 1e-12)
        ends = ("cls_classifier", "distillation_classifier") if kind == "deit" else ("classifier",)
        self.ends = nn.ModuleList([dense(w, n) for n in ends])

    def patches(self, x):
        bug, p = self.bug, self.size
        if bug == "pixels scaled":
            x = x / 255
        if bug == "pixels normalised":
            x = (x - 0.5) / 0.5
        if bug == "image transposed":
            x = x.mT
        B, c, S, _ = x.shape
        if bug == "patches reshaped":
            return F.linear(x.reshape(B, -1, c * p * p), self.filters.flatten(1), self.filter_bias)
        grid = x.reshape(B, c, S // p, p, S // p, p)
        if bug == "patches channels last" or self.cut == "reshape":
            flat = grid.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)
            return F.linear(flat, self.filters.flatten(1), self.filter_bias)
        if self.cut == "unfold":
            flat = F.unfold(x, p, stride=p).transpose(1, 2)
            return F.linear(flat, self.filters, self.filter_bias)
        y = F.conv2d(x, self.filters, self.filter_bias, stride=p)
        y = y.mT if bug == "patches by columns" else y
        return y.flatten(2).transpose(1, 2)

    def positions(self, S):
        bug, table = self.bug, self.where
        side = round((table.shape[1] - S) ** 0.5)
        if bug == "no positions":
            return 0 * table
        if bug == "cls without position":
            return torch.cat([0 * table[:, :S], table[:, S:]], 1)
        grid = table[:, S:].reshape(1, side, side, -1)
        if bug == "grid transposed":
            return torch.cat([table[:, :S], grid.transpose(1, 2).flatten(1, 2)], 1)
        if bug == "grid scrambled":
            grid = table[:, S:].reshape(1, -1, side, side)
            return torch.cat([table[:, :S], grid.flatten(2).transpose(1, 2)], 1)
        return table

    def forward(self, img):
        x, bug, S = self.patches(img), self.bug, len(self.marks)
        marks = [m.expand(len(x), -1, -1) for m in self.marks]
        where = self.positions(S)
        if bug == "no cls":
            x = x + where[:, S:]
        elif bug == "cls last":
            x = torch.cat([x, *marks], 1) + where
        elif bug == "no distillation token":
            x = torch.cat([marks[0], x], 1) + torch.cat([where[:, :1], where[:, 2:]], 1)
        else:
            marks = marks[::-1] if bug == "special tokens swapped" else marks
            x = torch.cat([*marks, x], 1) + where
        x = self.blocks(x)
        x = x if bug == "no final norm" else self.last(x)
        read = [x[:, i] for i in range(S)]
        if bug in ("no cls", "mean of patches"):
            read = [x[:, 0 if bug == "no cls" else S :].mean(1)]
        if bug == "cls last":
            read = [x[:, -1]]
        if bug == "no distillation token":
            read = [x[:, 0], x[:, 0]]
        read = read[::-1] if bug == "heads swapped" else read
        read = [h.detach() for h in read] if bug == "head detached" else read
        answers = [end(h) for end, h in zip(self.ends, read, strict=True)]
        return self.answer(answers[:1] if bug == "cls alone" else answers)

    def answer(self, answers):
        return sum(answers) / (1 if self.bug == "heads summed" else len(answers))
