"""Comparison of every parameter's gradient in a module with the reference's.

The cotangent is one random direction of the module's outputs, the same on both sides, so that no
loss is involved.
"""

from typing import NamedTuple

import numpy as np

from minidistil.model.sentence.sentence_model import (
    normalise,
    normalise_backward,
    pool_backward,
)
from minidistil.ops import backend
from minidistil.testing import FLOOR, rms

ARGUMENT = {"logits": "dlogits", "start_logits": "dstart_logits", "end_logits": "dend_logits",
            "sentence_embedding": "dlast_hidden_state", "pooled": "dpooler_output",
            "seq_relationship_logits": "dseq_relationship_logits"}  # fmt: skip
ONE_SIDED = (
    "The tied table receives one part of its gradient alone: {}.\n"
    "yours: ∂word = {}\n"
    "right: ∂word = gradient of the look-up + gradient of the projection onto the vocabulary\n"
    "fix: use the same Parameter in both places, without detach, .data or a copy"
)
UNTIED = (
    "Two parameters hold the word table: each receives a part of its gradient, and after one step "
    "they differ.\n"
    "yours: ∂word and ∂decoder separate\nright: one table, whose gradient is the sum\n"
    "fix: decoder.weight = word_embeddings.weight, the same Parameter"
)


class Gradient(NamedTuple):
    """One parameter's gradient in a module."""

    name: str  # canonical
    weight: str  # its name in the module
    error: float
    explained: float
    agrees: bool
    value: np.ndarray
    exact: np.ndarray


def directions(reference, returned, frame):
    """[(returned tensor, its cotangent in its own layout, quantity, the quantity's cotangent)]."""
    rng, found = np.random.default_rng(1), []
    for name in (*ARGUMENT, *reference.body):
        if name not in reference.values or (found and name in reference.body):
            continue
        exact = reference.values[name]
        d = rng.standard_normal(exact.shape)
        if exact.ndim == 3:
            d = d * frame.mask_of(exact.shape)[:, :, None]
        for _, tensor in returned:
            if tensor.requires_grad and tensor.numel() == exact.size:
                mine = _laid_out(frame, tensor, exact, d)
                if mine is not None:
                    found.append((tensor, mine, name, d))
                    break
    return found


def _laid_out(frame, tensor, exact, d):
    """The cotangent d in the layout of a returned tensor; None if no layout fits its values."""
    value = tensor.detach().double().numpy()
    places = np.arange(value.size).reshape(value.shape)
    best, layout = 1e-2 * rms(frame.real(exact)), None
    views = zip(frame.views(value, exact.shape), frame.views(places, exact.shape), strict=True)
    for view, where in views:
        error = rms(frame.real(view) - frame.real(exact))
        if error <= best:
            best, layout = error, where
    if layout is None:
        return None
    mine = np.zeros(value.size)
    mine[frame.real(layout)] = frame.real(d)
    return mine.reshape(value.shape)


def exact_gradients(reference, found):
    """The reference's gradients under canonical names: [in float64, in float32]."""
    both = []
    for dtype in ("float64", "float32"):
        model = reference.model.with_ops(backend("numpy", dtype))
        out = model.forward(**reference.program.inputs)
        grads = reference.program.by_role(model.backward(out, **_cotangents(model, out, found)))
        both.append({role: g.astype(np.float64) for role, g in grads.items()})
    return both


def _cotangents(model, out, found):
    """The cotangents as arguments of `Model.backward`, in the shapes of `out`."""
    given = {}
    for _, _, name, d in found:
        argument = ARGUMENT.get(name, "dlast_hidden_state")
        if name == "sentence_embedding":
            d = _dhidden(model, out, d)
        shown = getattr(out, argument.removeprefix("d"))
        given[argument] = d if shown is None else d.reshape(shown.shape)
    return given


def _dhidden(model, out, dy):
    """Gradient of the sentence embeddings (B,C)  ->  of the last hidden states (B,T,C)."""
    v, cache = model.pooled(out.kept.result.hidden[-1], out.kept.rows)
    dv = normalise_backward(dy, normalise(v)[1]) if model.pooling.normalize else dy
    dh = pool_backward(dv.astype(v.dtype), cache, model.pooling, model.ops)
    return out.kept.rows.scatter(dh)


def gradients(reference, weights, tensors, found, double):
    """[Gradient, …] of all weights that require a gradient, in the order of the module."""
    import torch

    named = {n: t for n, t in tensors.items() if t.requires_grad and t.is_leaf}
    if not found or not named:
        return []
    grads = torch.autograd.grad(
        [tensor for tensor, *_ in found], list(named.values()), allow_unused=True,
        grad_outputs=[torch.as_tensor(d).to(tensor.dtype) for tensor, d, *_ in found],
    )  # fmt: skip
    mine = {
        n: np.zeros(tuple(t.shape)) if g is None else g.detach().double().numpy()
        for (n, t), g in zip(named.items(), grads, strict=True)
    }
    exact, single = exact_gradients(reference, found)
    largest = max(map(rms, exact.values()))
    used, rows = set(), []
    for piece in weights.pieces:
        if piece.name in mine:
            value = piece.part(mine[piece.name])
            options = [c for c in piece.same if c not in used] or list(piece.same)
            # The gradient identifies parameters of equal values, as all biases before training are.
            name = min(options, key=lambda c: rms(value - exact[c]))
            used.add(name)
            rows.append(_row(name, piece.name, value, exact[name], single[name], largest, double))
    return rows


def _row(name, weight, value, exact, single, largest, double):
    explained, error = rms(single - exact), rms(value - exact)
    allowed = FLOOR * max(largest, rms(exact)) * 3 + (1 if double else 3) * explained
    size = max(rms(exact), 1e-3 * largest, 1e-30)
    return Gradient(
        name, weight, error / size, explained / size, bool(error <= allowed), value, exact
    )


def tied(reference, rows, found):
    """(id, message, evidence) of a mistake in the word table's gradient, or None."""
    program = reference.program
    word = [row for row in rows if row.name == program.word]
    projected = next((d for _, _, name, d in found if name == "logits" and d.ndim == 3), None)
    if not word or projected is None or program.features not in reference.values:
        return None
    normed = reference.values[program.features]
    features = normed.reshape(-1, normed.shape[2])
    projection = projected.reshape(len(features), -1).T @ features
    exact, size = word[0].exact, rms(word[0].exact)
    total = sum(row.value for row in word)
    if len(word) > 1 and rms(total - exact) <= 1e-4 * size:
        return "head-untied", UNTIED, " and ".join(row.weight for row in word) + " sum to it"
    sides = {"the look-up": exact - projection, "the projection": projection}
    for part, side in sides.items():
        if len(word) == 1 and rms(total - side) <= 1e-4 * size < rms(total - exact):
            message = ONE_SIDED.replace("{}", f"gradient of {part} alone")
            return "tied-gradient-one-sided", message, f"it is the part of {part} to 1e-4"
    return None
