"""What every op is tested on: shapes that bite, and what PyTorch calls the same thing.

A case is drawn once, in float32 values held in float64, so that both precisions see the same
numbers. Shapes: one row, one channel, primes, one row more than there are chunks.
"""

import warnings
from functools import cache
from itertools import pairwise
from typing import NamedTuple
from zlib import crc32

import numpy as np

from minidistil.ops.runtime.cpu import CHUNKS
from minidistil.ops.runtime.dropout_key import DropoutKey
from minidistil.ops.vocabulary import ROWS

SHAPES = ((1, 7), (5, 1), (CHUNKS + 1, 12), (31, 37))  # (N,C)
FEW = 450  # numbers among the arguments of a case that is worth storing


class Case(NamedTuple):
    """op, a name, the differentiable arguments, the fixed ones."""

    op: str
    name: str
    args: tuple
    fixed: dict

    def __str__(self):
        return f"{self.op}-{self.name}"


class Source:
    """Random arguments whose float32 and float64 forms are the same numbers."""

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)

    def normal(self, *shape, scale=1.0, mean=0.0):
        x = self.rng.normal(mean, scale, shape)
        return x.astype(np.float32).astype(np.float64)

    def integers(self, high, *shape):
        return self.rng.integers(0, high, shape)

    def some_rows(self, N):
        """A mask that keeps row 0 and about half of the others."""
        mask = self.rng.random(N) < 0.5
        mask[0] = True
        return mask


def elementwise(s, scale=2.0):
    for N, C in SHAPES:
        yield f"{N}x{C}", (s.normal(N, C, scale=scale),), {}


def add(s):
    for N, C in SHAPES:
        yield f"{N}x{C}", (s.normal(N, C), s.normal(N, C)), {}


def embedding(s):
    for V, N, C in ((1, 1, 3), (7, 31, 1), (53, CHUNKS + 1, 12), (11, 97, 8)):
        table, ids = s.normal(V, C), s.integers(V, N)
        yield f"{V}x{C}", (table,), {"ids": ids}
        yield f"{V}x{C}-padded", (table,), {"ids": ids, "padding_id": int(ids[0])}


def linear(s):
    for N, I, O in ((1, 5, 3), (17, 1, 8), (CHUNKS + 1, 12, 1), (31, 37, 29)):
        args = s.normal(N, I), s.normal(O, I, scale=I**-0.5), s.normal(O)
        yield f"{N}x{I}x{O}", args, {}


def gelu(s):
    for form in ("none", "tanh"):
        for name, args, _ in elementwise(s):
            yield f"{name}-{form}", args, {"approximate": form}


def linear_gelu(s):
    for form in ("none", "tanh"):
        for name, args, _ in linear(s):
            yield f"{name}-{form}", args, {"approximate": form}


def softmax(s):
    yield from elementwise(s, scale=4.0)


def causal_cases(s):
    """No look ahead, another text's keys, both: the newest queries of a longer sequence."""
    for H, D, lengths, key_lengths in (
        (2, 5, (7, 1, 4), (7, 1, 4)), (3, 4, (4, 1, 2), (9, 3, 2)), (1, 7, (1, 17), (30, 18)),
    ):  # fmt: skip
        q, (k, v) = s.normal(sum(lengths), H * D), s.normal(2, sum(key_lengths), H * D)
        fixed = {"bounds": sequences(*lengths), "n_heads": H}
        fixed["key_bounds"] = sequences(*key_lengths)
        name = f"{H}x{D}-{max(lengths)}-meets-{max(key_lengths)}"
        yield name, (q, k, v), fixed
        yield f"{name}-causal", (q, k, v), fixed | {"causal": True}
        drawn = {"causal": True, "dropout_key": draw_for(lengths, site=3)}
        yield f"{name}-causal-dropout", (q, k, v), fixed | drawn


def sequences(*lengths):
    return np.concatenate([[0], np.cumsum(lengths)])


def attention(s):
    for H, D, lengths in ((1, 1, (1,)), (3, 4, (1, 1, 1)), (2, 5, (7, 1, 4)), (4, 8, (3, 17, 2))):
        N, C = sum(lengths), H * D
        q, k, v = s.normal(N, C, scale=1.5), s.normal(N, C, scale=1.5), s.normal(N, C)
        name, fixed = f"{H}x{D}-{max(lengths)}", {"bounds": sequences(*lengths), "n_heads": H}
        yield name, (q, k, v), fixed
        yield f"{name}-dropout", (q, k, v), fixed | {"dropout_key": draw_for(lengths, site=3)}
    yield from causal_cases(s)


def moments(s):
    for N, C in ((1, 1), (3, 7), (CHUNKS + 1, 40)):
        yield f"{N}x{C}", (s.normal(N, C, scale=2.0, mean=0.5),), {}


def relation(s):
    for measure, H, D, E, lengths in (
        ("kl", 2, 3, 5, (4, 1, 6)), ("ce", 1, 4, 4, (5,)), ("scores", 3, 2, 1, (1, 7)),
        ("probs", 2, 5, 2, (3, 3, 2)), ("kl", 4, 8, 16, (17, 31)), ("probs", 2, 8, 8, (33,)),
    ):  # fmt: skip
        N = sum(lengths)
        q, k = s.normal(N, H * D, scale=1.5), s.normal(N, H * D, scale=1.5)
        target_q, target_k = s.normal(N, H * E, scale=1.5), s.normal(N, H * E, scale=1.5)
        weights = np.array([np.float32(1 / (H * t)) for t in lengths], np.float64)  # as stored
        yield f"{measure}-{H}x{D}-{max(lengths)}", (q, k), {
            "target_q": target_q, "target_k": target_k, "bounds": sequences(*lengths),
            "n_heads": H, "weights": weights, "measure": measure,
        }  # fmt: skip


def draw_for(lengths, p=0.3, site=1, seed=11, step=5, first_sequence=2):
    """A Draw for sequences of these lengths, whose rows follow one another."""
    sequence = np.repeat(np.arange(len(lengths)) + first_sequence, lengths)
    column = np.concatenate([np.arange(t) for t in lengths])
    return DropoutKey(p, seed, step, site, sequence, column)


def layernorm(s):
    for (N, C), eps in zip(((1, 7), (5, 2), (CHUNKS + 1, 12), (31, 37)), (1e-12, 1e-5) * 2,
                           strict=True):  # fmt: skip
        x = s.normal(N, C, scale=3.0, mean=1.0)
        yield f"{N}x{C}", (x, s.normal(C, mean=1.0), s.normal(C)), {"eps": eps}


def add_layernorm(s):
    for name, (x, gamma, beta), fixed in layernorm(s):
        yield name, (x, s.normal(*x.shape), gamma, beta), fixed


def dropout(s):
    for C, lengths in ((1, (1,)), (3, (5, 1)), (12, (CHUNKS, 1)), (37, (31,))):
        x = s.normal(sum(lengths), C)
        yield f"{sum(lengths)}x{C}", (x,), {"key": draw_for(lengths)}


def cross_entropy(s):
    for N, V in ((1, 5), (CHUNKS + 1, 12), (31, 37), (5, 1000)):
        logits, labels = s.normal(N, V, scale=3.0), s.integers(V, N)
        yield f"{N}x{V}", (logits,), {"labels": labels}
        some = np.where(s.some_rows(N), labels, -100)
        yield f"{N}x{V}-some", (logits,), {"labels": some}


def weighted_cross_entropy(s):
    for N, K in ((5, 100), (CHUNKS + 1, 30), (31, 37)):
        logits, labels = s.normal(N, K, scale=3.0), s.integers(K, N)
        labels[0] = 0  # the class whose weight becomes NaN is there
        some = np.where(s.some_rows(N), labels, -100)
        weights = np.abs(s.normal(K)) + 0.1
        yield f"{N}x{K}-weights", (logits,), {"labels": some, "class_weights": weights}
        yield f"{N}x{K}-smooth", (logits,), {"labels": labels, "label_smoothing": 0.2}
        both = {"class_weights": weights, "label_smoothing": 0.1}
        yield f"{N}x{K}-both", (logits,), {"labels": some, **both}


def binary_cross_entropy(s):
    for N, K in SHAPES:
        logits, labels = s.normal(N, K, scale=3.0), s.integers(2, N, K).astype(np.float64)
        yield f"{N}x{K}", (logits,), {"labels": labels}


def kl_div(s):
    for N, V in ((1, 5), (CHUNKS + 1, 12), (31, 37), (5, 1000)):
        logits, teacher = s.normal(N, V, scale=3.0), s.normal(N, V, scale=3.0)
        yield f"{N}x{V}", (logits,), {"teacher": teacher}
        if N != CHUNKS + 1:
            continue
        for reduction in ("batchmean", "mean", "sum"):
            for scale in (True, False):
                options = {"tau": 3.0, "reduction": reduction, "scale": scale}
                name = f"{N}x{V}-{reduction}{'-scaled' * scale}"
                fixed = {"teacher": teacher, "mask": s.some_rows(N), **options}
                yield name, (logits,), fixed


def cosine(s):
    for N, C in ((1, 7), (5, 2), (CHUNKS + 1, 12), (31, 37)):
        x, target = s.normal(N, C, mean=0.3), s.normal(N, C, mean=0.3)
        yield f"{N}x{C}", (x,), {"target": target}
        yield f"{N}x{C}-some", (x,), {"target": target, "mask": s.some_rows(N)}


def mse(s):
    for N, C in SHAPES:
        x, target, mask = s.normal(N, C), s.normal(N, C), s.some_rows(N)
        yield f"{N}x{C}", (x,), {"target": target}
        for reduction in ("mean", "batchmean", "sum"):
            fixed = {"target": target, "mask": mask, "reduction": reduction}
            yield f"{N}x{C}-{reduction}", (x,), fixed


def mae(s):
    for N, C in SHAPES:
        x, target = s.normal(N, C), s.normal(N, C)
        yield f"{N}x{C}", (x,), {"target": target}
        yield f"{N}x{C}-some", (x,), {"target": target, "mask": s.some_rows(N)}


def vocabulary(s):
    for N, C, V in ((1, 3, 5), (CHUNKS + 1, 4, 7), (31, 8, 37), (ROWS + 1, 2, 11)):
        args = s.normal(N, C), s.normal(V, C), s.normal(V)
        teacher = s.normal(N, V, scale=2.0).__getitem__  # of a slice of rows
        labels = np.where(s.some_rows(N), s.integers(V, N), -100)
        everything = {"alpha_ce": 5.0, "alpha_mlm": 2.0, "alpha_mse": 0.5}
        yield f"{N}x{V}", args, {"labels": labels, "teacher": teacher, "tau": 3.0, **everything}
        yield f"{N}x{V}-words", args, {"labels": labels, "alpha_mlm": 1.5}
        yield f"{N}x{V}-soft", args, {"teacher": teacher, "alpha_ce": 1.0}


MAKERS = {
    "add": add, "embedding": embedding, "linear": linear, "gelu": gelu,
    "linear_gelu": linear_gelu, "relu": elementwise, "tanh": elementwise, "softmax": softmax,
    "attention": attention, "layernorm": layernorm, "add_layernorm": add_layernorm,
    "dropout": dropout, "cross_entropy": cross_entropy,
    "weighted_cross_entropy": weighted_cross_entropy,
    "binary_cross_entropy": binary_cross_entropy, "kl_div": kl_div, "cosine": cosine, "mse": mse,
    "mae": mae, "moments": moments, "relation": relation, "vocabulary": vocabulary,
}  # fmt: skip


@cache
def cases_of(op):
    """Every Case of one op."""
    return [Case(op, *case) for case in MAKERS[op](Source(crc32(op.encode())))]


def all_cases():
    """Every Case of every op."""
    return [case for op in MAKERS for case in cases_of(op)]


# ---------------------------------------------------------------- what PyTorch calls the same thing


def torch_attention(torch, q, k, v, *, bounds, n_heads, key_bounds=None, causal=False):
    def heads(x):
        return x.unflatten(1, (n_heads, -1)).transpose(0, 1)  # (H,t,D)

    outs, key_bounds = [], bounds if key_bounds is None else key_bounds
    for rows, keys in zip(slices(bounds), slices(key_bounds), strict=True):
        t, u = rows.stop - rows.start, keys.stop - keys.start
        seen = torch.ones(t, u, dtype=bool).tril(u - t) if causal else None
        y = torch.nn.functional.scaled_dot_product_attention(
            heads(q[rows]), heads(k[keys]), heads(v[keys]), attn_mask=seen
        )
        outs.append(y.transpose(0, 1).flatten(1))
    return torch.cat(outs)


def slices(bounds):
    return [slice(int(first), int(last)) for first, last in pairwise(bounds)]


def torch_relation(torch, q, k, *, target_q, target_k, bounds, n_heads, weights, measure):
    def scores(x, y):
        x, y = (z.unflatten(1, (n_heads, -1)).transpose(0, 1) for z in (x, y))  # (H,t,D)
        return x @ y.mT / x.shape[2] ** 0.5

    F, y = torch.nn.functional, 0
    for b in range(len(bounds) - 1):
        rows = slice(int(bounds[b]), int(bounds[b + 1]))
        s, u = scores(q[rows], k[rows]), scores(target_q[rows], target_k[rows])
        y = y + weights[b] * {
            "kl": lambda s, u: F.kl_div(s.log_softmax(2), u.softmax(2), reduction="sum"),
            "ce": lambda s, u: -(u.softmax(2) * s.log_softmax(2)).sum(),
            "scores": lambda s, u: F.mse_loss(s, u, reduction="sum"),
            "probs": lambda s, u: F.mse_loss(s.softmax(2), u.softmax(2), reduction="sum"),
        }[measure](s, u)
    return y


def torch_kl_div(torch, logits, *, teacher, tau=2.0, mask=None, reduction="batchmean", scale=True):
    z, t = (x if mask is None else x[mask] for x in (logits, teacher))
    log_p, log_t = (torch.log_softmax(x / tau, 1) for x in (z, t))
    with warnings.catch_warnings(action="ignore"):  # it advises against its own "mean"
        kl = torch.nn.functional.kl_div(log_p, log_t.exp(), reduction=reduction)
    return kl * tau**2 if scale else kl


def torch_cosine(torch, x, *, target, mask=None):
    a, b = (v if mask is None else v[mask] for v in (x, target))
    return torch.nn.functional.cosine_embedding_loss(a, b, torch.ones(len(a), dtype=a.dtype))


def torch_mse(torch, x, *, target, mask=None, reduction="mean"):
    a, b = (v if mask is None else v[mask] for v in (x, target))
    if reduction == "batchmean":
        return torch.nn.functional.mse_loss(a, b, reduction="sum") / len(a)
    return torch.nn.functional.mse_loss(a, b, reduction=reduction)


def torch_mae(torch, x, *, target, mask=None):
    a, b = (v if mask is None else v[mask] for v in (x, target))
    return torch.nn.functional.l1_loss(a, b)


def torch_vocabulary(torch, x, weight, bias, *, labels=None, teacher=None, tau=2.0, **alphas):
    z, loss = torch.nn.functional.linear(x, weight, bias), 0
    if teacher is not None:
        t = torch.tensor(teacher(slice(None)), dtype=z.dtype)
        loss = alphas["alpha_ce"] * torch_kl_div(torch, z, teacher=t, tau=tau)
        loss = loss + alphas.get("alpha_mse", 0) * torch_mse(
            torch, z, target=t, reduction="batchmean"
        )
    if labels is not None:
        loss = loss + alphas["alpha_mlm"] * torch.nn.functional.cross_entropy(z, labels)
    return loss


def torch_weighted(torch, logits, *, labels, class_weights=None, label_smoothing=0.0):
    weight = None if class_weights is None else torch.as_tensor(class_weights, dtype=logits.dtype)
    loss = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=label_smoothing)
    return loss(logits, labels)


def torch_op(op):
    """PyTorch's function for an op, with the op's own arguments; None: it draws other numbers."""
    import torch

    F = torch.nn.functional
    return {
        "add": torch.add,
        "embedding": lambda table, ids, padding_id=None: F.embedding(ids, table, padding_id),
        "linear": F.linear,
        "gelu": F.gelu,
        "linear_gelu": lambda *args, approximate: F.gelu(F.linear(*args), approximate=approximate),
        "relu": F.relu,
        "tanh": torch.tanh,
        "softmax": lambda x: torch.softmax(x, 1),
        "attention": lambda *args, **fixed: torch_attention(torch, *args, **fixed),
        "layernorm": lambda x, gamma, beta, eps: F.layer_norm(x, gamma.shape, gamma, beta, eps),
        "add_layernorm": lambda x, z, gamma, beta, eps: F.layer_norm(
            x + z, gamma.shape, gamma, beta, eps
        ),
        "cross_entropy": lambda logits, labels: F.cross_entropy(logits, labels),
        "weighted_cross_entropy": lambda *args, **fixed: torch_weighted(torch, *args, **fixed),
        "binary_cross_entropy": lambda logits, labels: F.binary_cross_entropy_with_logits(
            logits, labels
        ),
        "kl_div": lambda *args, **fixed: torch_kl_div(torch, *args, **fixed),
        "cosine": lambda *args, **fixed: torch_cosine(torch, *args, **fixed),
        "mse": lambda *args, **fixed: torch_mse(torch, *args, **fixed),
        "mae": lambda *args, **fixed: torch_mae(torch, *args, **fixed),
        "moments": lambda x: torch.stack([x.mean(1), x.var(1, unbiased=False)]),
        "relation": lambda *args, **fixed: torch_relation(torch, *args, **fixed),
        "vocabulary": lambda *args, **fixed: torch_vocabulary(torch, *args, **fixed),
    }[op]


def is_plain(case):
    """False where the backward is not the derivative on purpose: a padding row is not trained."""
    return "padding_id" not in case.fixed


def has_torch_twin(case):
    """False where a mask is drawn: PyTorch would draw another one."""
    return not {"key", "dropout_key"} & set(case.fixed)


def stored_cases():
    """The cases whose PyTorch numbers are stored: the small ones."""
    small = [case for case in all_cases() if sum(x.size for x in case.args) <= FEW]
    return list(filter(has_torch_twin, small))
