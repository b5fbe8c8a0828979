"""Comparison of every parameter's gradient in an implementation with the reference's.

For a module, the cotangent is one random direction of its outputs, the same on both sides, so that
no loss is involved.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.align import SINGLE
from minidistil.check.findings import Diagnosis, Row
from minidistil.io.counts import counted, part_of
from minidistil.model.sentence.sentence_model import (
    normalise,
    normalise_backward,
    pool_backward,
)
from minidistil.ops import backend
from minidistil.testing import FLOOR, rms

ARGUMENT = {"logits": "dlogits", "start_logits": "dstart_logits", "end_logits": "dend_logits",
            "cls_logits": "dcls_logits", "distillation_logits": "ddistillation_logits",
            "sentence_embedding": "dlast_hidden_state", "pooled": "dpooler_output",
            "seq_relationship_logits": "dseq_relationship_logits"}  # fmt: skip
FACTOR, CUT, LOOKED_UP = "gradient-factor", "gradient-cut", "look-up-gradient"
OF_A_WEIGHT = (FACTOR, CUT, LOOKED_UP)  # what is known before the gradients inside are compared
SAME = 1e-4  # relative; of gradients that are multiples of each other
ONE_SIDED = (
    "The tied table receives one part of its gradient alone: {}.\n"
    "yours: ∂word = {}\n"
    "right: ∂word = gradient of the look-up + gradient of the projection onto the vocabulary\n"
    "fix: use the same Parameter in both places, without detach, .data or a copy"
)
OTHER_SHARES = (
    "The two parts of the tied table's gradient have other factors than 1.\n"
    "yours: ∂word = {}\n"
    "right: ∂word = gradient of the look-up + gradient of the projection onto the vocabulary\n"
    "fix: look for what counts one use of the table twice, or only partly"
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


def exact_gradients(reference, cotangents):
    """The reference's gradients under canonical names: [in float64, in float32].

    cotangents: {quantity: the gradient of the loss with respect to it}.
    """
    both = []
    for dtype in ("float64", "float32"):
        model = reference.model.with_ops(backend("numpy", dtype))
        out = model.forward(**reference.program.inputs)
        grads = reference.program.by_role(
            model, model.backward(out, **_arguments(model, out, cotangents))
        )
        both.append({role: g.astype(np.float64) for role, g in grads.items()})
    return both


def _arguments(model, out, cotangents):
    """The cotangents as arguments of `Model.backward`, in the shapes of `out`."""
    given = {}
    for name, d in cotangents.items():
        if name == "spans":
            both = {"dstart_logits": d[..., 0], "dend_logits": d[..., 1]}
            given |= {n: x.reshape(getattr(out, n[1:]).shape) for n, x in both.items()}
            continue
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


def gradients(reference, weights, mine, cotangents, double):
    """([Gradient, …] of an implementation's weights, in its order; the exact ones, all of them).

    mine: {name of a weight: its gradient}. double: whether they were computed in float64.
    """
    exact, single = exact_gradients(reference, cotangents)
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
    return rows, exact


def _row(name, weight, value, exact, single, largest, double):
    explained, error = rms(single - exact), rms(value - exact)
    allowed = FLOOR * max(largest, rms(exact)) * 3 + (1 if double else 3) * explained
    size = max(rms(exact), 1e-3 * largest, 1e-30)
    return Gradient(
        name, weight, error / size, explained / size, bool(error <= allowed), value, exact
    )


def tied(reference, rows, cotangents):
    """(id, message, evidence) of a mistake in the word table's gradient, or None."""
    word = [row for row in rows if row.name == reference.program.word]
    if not word or (projection := _projection(reference, cotangents)) is None:
        return None
    exact, size = word[0].exact, rms(word[0].exact)
    total = sum(row.value for row in word)
    if len(word) > 1 and rms(total - exact) <= 1e-4 * size:
        return "head-untied", UNTIED, " and ".join(row.weight for row in word) + " sum to it"
    sides = {"the look-up": exact - projection, "the projection": projection}
    for part, side in sides.items():
        if len(word) == 1 and rms(total - side) <= 1e-4 * size < rms(total - exact):
            message = ONE_SIDED.replace("{}", f"gradient of {part} alone")
            other = next(n for n in sides if n != part)
            evidence = f"1 × the part of {part} + 0 × that of {other}, to 1e-4"
            return "tied-gradient-one-sided", message, evidence
    return _other_shares(total, sides, size) if len(word) == 1 else None


def _projection(reference, cotangents):
    """The part of the tied table's gradient that is the projection's; None without one."""
    projected = cotangents.get("logits")
    normed = reference.values.get(reference.program.features)
    if projected is None or projected.ndim != 3 or normed is None:
        return None
    features = normed.reshape(-1, normed.shape[2])
    return projected.reshape(len(features), -1).T @ features


def _is_tied(reference, name):
    return name == reference.program.word and reference.values.get("logits") is not None


def _other_shares(total, sides, size):
    """The tied table's gradient as a sum of its two parts with other factors; None if it is not."""
    columns = np.stack([x.ravel() for x in sides.values()], axis=1)
    factors, *_ = np.linalg.lstsq(columns, total.ravel(), rcond=None)
    error = rms(columns @ factors - total.ravel())
    if error > SAME * size or np.abs(factors - 1).max() <= SAME:
        return None
    shares = [f"{f:.4f} × the part of {n}" for f, n in zip(factors, sides, strict=True)]
    message = OTHER_SHARES.replace("{}", " + ".join(shares))
    return "tied-gradient-factor", message, f"in every entry to {error / size:.0e} of its rms"


def _factors(bad):
    """[Diagnosis] of gradients that are other multiples than 1 of the right ones, all; else []."""
    factors = []
    for g in bad:
        f = float(np.vdot(g.value, g.exact) / max(float(np.vdot(g.exact, g.exact)), 1e-300))
        if not f or abs(f - 1) <= SAME or rms(g.value - f * g.exact) > SAME * rms(g.value):
            return []
        factors.append(f)
    shown = [f"∂{g.weight} is {f:.4f} × the right one" for g, f in zip(bad, factors, strict=True)]
    some = ", ".join(shown[-3:]) + (f" and {len(bad) - 3} more" if len(bad) > 3 else "")
    message = (
        f"The gradient is a multiple of the right one.\nyours: {some}\nright: 1 ×\n"
        "fix: look for a use that counts twice, a hook, a mean of copies, or a detached part"
    )
    evidence = f"in every entry to {SAME:.0e} of its rms"
    return [Diagnosis(FACTOR, message, f"parameter {bad[-1].weight}", evidence)]


def _none(bad):
    """[Diagnosis] of parameters that no gradient reaches, if these are all that differ."""
    if any(rms(g.value) for g in bad):
        return []
    names = ", ".join(g.weight for g in bad[:4]) + (", …" if len(bad) > 4 else "")
    message = (
        f"No gradient arrives at {names}, which the forward uses.\n"
        f"yours: ∂ = 0\nright: ∂ as autograd gives it\n"
        f"fix: look for detach, no_grad, .data or a copy of the parameter; where it is meant to be "
        f"fixed, requires_grad_(False) says so"
    )
    evidence = f"every other gradient agrees; {counted(len(bad), 'gradient')} of zeros"
    return [Diagnosis(CUT, message, f"parameter {bad[-1].weight}", evidence)]


def _rows(bad, reference, cotangents):
    """[Diagnosis] of a table whose look-up gives some rows another gradient; else []."""
    (g, *others), ids = bad, getattr(reference.program, "ids", None)
    if others or ids is None or not g.name.endswith("embeddings.word.weight"):
        return []
    part = g.exact - (_projection(reference, cotangents) if _is_tied(reference, g.name) else 0.0)
    mine, used = g.value - (g.exact - part), np.unique(ids[reference.program.mask])
    size = max(rms(part), 1e-30)
    if rms(np.delete(mine, used, axis=0)) > SAME * size:
        return []
    found = _by_rows(mine, part, used, ids[reference.program.mask], size)
    if found is None:
        return []
    says, formula, fix = found
    message = f"The look-up's gradient is {says}.\nyours: {formula}\n{LOOK_UP}\nfix: {fix}"
    evidence = f"in every row of the {len(used)} that the batch looks up, to {SAME:.0e}"
    return [Diagnosis(LOOKED_UP, message, f"parameter {g.weight}", evidence)]


LOOK_UP = "right: ∂word[i] = Σ over the tokens with id i of ∂x"


def _by_rows(mine, part, used, ids, size):
    """(what the rows are, the formula, the fix) of a look-up's gradient; None where unknown."""
    close = np.abs(mine - part).max(axis=1) <= 100 * SAME * size
    counts = np.bincount(ids, minlength=len(part))
    zero = [int(i) for i in used if not close[i] and np.abs(mine[i]).max() <= SAME * size]
    if zero and all(close[i] or i in zero for i in used):
        some = ", ".join(map(str, zero[:8]))
        return (
            f"0 in row {some}, which the batch looks up", "∂word[i] = 0 for this i",
            "look at padding_idx of nn.Embedding, and at a mask of the gradient",
        )  # fmt: skip
    shared = part / np.maximum(counts, 1)[:, None]
    if np.abs(mine - shared)[used].max() <= 100 * SAME * size:
        return (
            "divided by the number of tokens with the id", "∂word[i] = the mean over these tokens",
            "leave out scale_grad_by_freq; add the tokens' gradients up",
        )  # fmt: skip
    if all(close[i] == (counts[i] == 1) for i in used):
        return (
            "wrong in the rows of ids that repeat, and right in all others",
            "∂word[i] = that of one of these tokens",
            "add instead of assigning (index_add_, np.add.at, scatter_add_)",
        )  # fmt: skip
    return None


def compare_gradients(comparison, reference, mine, cotangents):
    """Add the rows of the gradients, and the first that differs if all else agrees  ->  [Gradient,
    …] of those that differ, the nearest to the loss last.

    comparison: of `compare_values`. mine, cotangents: as `gradients` takes them.
    """
    report, public = comparison.report, reference.program.names
    if not cotangents or not mine:
        return []
    double = comparison.alignment.precision != SINGLE
    found, exact = gradients(reference, comparison.weights, mine, cotangents, double)
    comparison.other_form.extend(_other_form(comparison.weights, mine, exact, public))
    mistake = tied(reference, found, cotangents)
    untied = mistake is not None and mistake[0] == "head-untied"
    for g in found:
        agrees = g.agrees or (untied and g.name == reference.program.word)
        row = Row(f"grad.{public[g.name]}", "gradient", g.error, g.explained, agrees, g.weight)
        report.rows.append(row)
    order = list(public)
    bad = sorted((g for g in found if not g.agrees), key=lambda g: order.index(g.name))
    if report.verdict == "differ" or not bad:
        return bad
    last = bad[-1]  # backpropagation reaches the last parameter first
    report.verdict, report.first_difference = "differ", f"grad.{public[last.name]}"
    report.where = f"parameter {last.weight}"
    if mistake and all(g.name == reference.program.word for g in bad):
        report.diagnosis = [Diagnosis(mistake[0], mistake[1], report.where, mistake[2])]
        return bad
    report.diagnosis = _factors(bad) or _none(bad) or _rows(bad, reference, cotangents)
    zero = "no gradient arrives" if not rms(last.value) else f"relative error {last.error:.1e}"
    share = part_of(len(bad), len(found), "gradient", "differs")
    report.evidence = (
        f"every quantity of the forward agrees; {share}, the nearest to the loss is that of "
        f"{last.weight}: {zero}; look for a step that the backward leaves out (in PyTorch detach, "
        f"no_grad, .data or a copy of the weight)"
    )
    return bad


def _other_form(weights, mine, exact, public):
    """Why some gradients cannot be compared: the module holds a parameter in another form."""
    lacking = [public[name] for name in weights.missing if rms(exact[name])]
    foreign = [name for name in weights.foreign if name in mine and rms(mine[name])]
    if lacking and foreign:
        yield (
            f"no gradient was compared for {counted(len(lacking), 'parameter')}, such as "
            f"{lacking[0]}: there are gradients in another form, among {', '.join(foreign[:3])}"
        )
