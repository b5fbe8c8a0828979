"""Generic searches for what no known mistake explains, each stated with its evidence.

The first quantity that differs is compared with the arrays of the implementation that follow the
last one that agrees: as a relation of whole arrays (`relations`), as the same op on another input
or parameter, as a sum of terms with other factors (`steps_inside`), as another function
(`functions`).
"""

import numpy as np

from minidistil.check.align import SINGLE
from minidistil.check.findings import Diagnosis
from minidistil.check.formulas import rewritten
from minidistil.check.functions import FUNCTIONS, left_out, slope_inside
from minidistil.check.reference_ops import layernorm, softmax
from minidistil.check.relations import EXACT, PARTLY, Relation, relation
from minidistil.check.steps_inside import call_of, followed, other_ops, replaced, terms
from minidistil.testing import rms

TRIED = 24  # arrays after the last quantity that agrees


def related(reference, alignment, where):
    """[Diagnosis] of what holds in every entry of the first difference; else []."""
    name = alignment.first
    tolerance = EXACT
    if alignment.precision == SINGLE:
        tolerance = 10 * reference.tolerance(name, SINGLE)
    call = call_of(reference, name)
    with np.errstate(all="ignore"):
        for owner, view in _in_its_place(reference, alignment, call):
            for search in (
                _related,
                _normed,
                _replaced,
                _other_op,
                _terms,
                _functions,
                _weights,
                _formulas,
            ):
                found = search(reference, name, view, call, tolerance)
                if found is not None:
                    place = alignment.index.recorded[owner].where or where
                    return [_diagnosis(name, found, place)]
    return []


def _in_its_place(reference, alignment, call):
    """[(number, view)] of the arrays from which the implementation computes what follows: those
    with which the reference reproduces most later quantities of the stage."""
    name = alignment.first
    exact = reference.values[name]
    before = alignment.names[: alignment.names.index(name)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    _, owners, views, _ = alignment.index.kind(exact.shape)
    later = [(o, v) for o, v in zip(owners, views, strict=True) if o > last][:TRIED]
    if call is None:
        return later
    counts = []
    for _, view in later:
        follow = followed(reference, name, call, view)
        found = [
            alignment.index.match(x, reference.tolerance(n, alignment.precision))[0] is not None
            for n, x in follow.items()
        ]
        counts.append(sum(found) if found else 0)
    most = max(counts, default=0)
    # Where nothing that follows is reproduced, the latest array is the quantity: the ones before
    # are steps on the way to it.
    return [pair for pair, count in zip(later, counts, strict=True) if count == most][::-1]


def _diagnosis(name, found, where):
    message = (
        f"{name} is {found.says}.\nyours: {found.formula}\nright: y = {name}\n"
        f"fix: look for what makes {found.formula}"
    )
    evidence = f"in every entry to {max(found.error, 1e-16):.0e}, relative to its rms"
    return Diagnosis(found.id, message, where, evidence)


def _related(reference, name, view, step, tolerance):
    frame = reference.frame
    found = relation(frame.rows(view), frame.rows(reference.values[name]), tolerance)
    return None if found is None or found.id == PARTLY else found


def _apart(reference, view, candidate):
    real = reference.frame.real
    off = np.abs(real(view) - real(candidate)).max(initial=0)
    size = rms(real(view))  # infinite of a mask that is added
    return float(off / max(size, 1e-30)) if np.isfinite([off, size]).all() else float("inf")


def _replaced(reference, name, view, step, tolerance):
    """The same op on another input or with another parameter."""
    if step is None:
        return _context(reference, name, view, tolerance)
    public = reference.program.names
    for (right, other), result in replaced(reference, step):
        if getattr(result, "shape", None) != view.shape:
            continue
        error = _apart(reference, view, result)
        if error <= tolerance:
            kind = "input" if other in reference.values else "parameter"
            right, other = (
                public.get(n) or public.get(f"{n}.weight", n).removesuffix(".weight")
                for n in (right, other)
            )
            says = f"computed with {other} in place of {right}"
            return Relation(f"another-{kind}", says, f"{step.op} of {other}", error)
    return None


def _normed(reference, name, view, step, tolerance):
    """A product of its input after one more LayerNorm, without γ and β."""
    if step is None or step.op not in ("linear", "projection"):
        return None
    x, *parameters = step.args
    C = x.shape[-1]
    for eps in (1e-5, 1e-12, 1e-6):
        normed = layernorm(x, np.ones(C), np.zeros(C), eps=eps)
        error = _apart(reference, view, step.function(normed, *parameters, **step.fixed))
        if error <= tolerance:
            says = f"computed from {step.names[0] or 'its input'} after one more LayerNorm"
            return Relation("extra-norm", f"{says}, ε = {eps:g}", f"{step.op} of LN(x)", error)
    return None


def _other_op(reference, name, view, step, tolerance):
    """Another layer of the model in the op's place."""
    if step is None or step.op not in ("linear", "projection", "layernorm"):
        return None
    public = reference.program.names
    for site, result in other_ops(reference, step):
        if result.shape == view.shape and _apart(reference, view, result) <= tolerance:
            layer = public[f"{site}.weight"].removesuffix(".weight")
            error = _apart(reference, view, result)
            return Relation("another-layer", f"what {layer} computes", f"{layer}(x)", error)
    return None


def _context(reference, name, view, tolerance):
    """The context: weights times values, either of them another quantity."""
    if not name.endswith("context"):
        return None
    layer = name.removesuffix("context")
    split, merge = reference.program.right["heads"](reference.program.a.H)
    weights = {n: x for n, x in reference.values.items() if n.endswith(("probs", "scores"))}
    rows = {n: x for n, x in reference.values.items() if x.shape == view.shape}
    right = {f"{layer}probs", f"{layer}v"}
    for a, p in weights.items():
        for b, x in rows.items():
            if len(right & {a, b}) == 1 and p.shape[-1] == x.shape[1]:
                error = _apart(reference, view, merge(p @ split(x)))
                if error <= tolerance:
                    return Relation(
                        "another-input", f"the product of {a} and {b}", f"{a}·{b}", error
                    )
    return None


def _terms(reference, name, view, step, tolerance):
    """The sum of the op's terms, with other factors."""
    parts = terms(step) if step is not None else []
    if not parts:
        return None
    real = reference.frame.real
    columns = np.stack([real(x) for _, x in parts] + [np.ones(real(view).size)], axis=1)
    factors, *_ = np.linalg.lstsq(columns, real(view), rcond=None)
    error = np.abs(columns @ factors - real(view)).max() / max(rms(real(view)), 1e-30)
    if not error <= tolerance:
        return None
    names = [n for n, _ in parts] + ["1"]
    kept = [(f, n) for f, n in zip(factors, names, strict=True) if abs(f) > 1e-6]
    formula = "y = " + " + ".join(f"{f:.6g}·{n}" for f, n in kept)
    return Relation(
        "other-factors", "the sum of the right terms with other factors", formula, float(error)
    )


def _functions(reference, name, view, step, tolerance):
    """Another function of the activation's input, or the right one of a multiple of it."""
    if step is None or step.op != "activation":
        return None
    x, real = step.args[0], reference.frame.real
    right = lambda z: step.function(z, **step.fixed)  # noqa: E731
    for label, f in FUNCTIONS.items():
        error = _apart(reference, view, f(x))
        if error <= tolerance:
            return Relation("activation-other", f"another function: {label}", f"y = {label}", error)
    sigmoid = lambda z: z / (1 + np.exp(-z))  # noqa: E731
    for label, f in (("the activation", right), ("x·σ(x)", sigmoid)):
        a = slope_inside(f, real(view), real(x))
        scaled = f(a * x) if f is right else f(a * x) / a
        error = _apart(reference, view, scaled)
        if error <= 100 * tolerance:
            return Relation("activation-other", f"{label} of {a:.6g}·x", f"y = f({a:.6g}·x)", error)
    return None


def _weights(reference, name, view, step, tolerance):
    """Attention weights at another temperature, or over fewer keys."""
    if not name.endswith("probs"):
        return None
    right = reference.values[name]
    scores = reference.values[name.replace("probs", "scores")]
    square = np.broadcast_to(reference.frame.square_of(right.shape), right.shape)
    keys = reference.frame.mask_of((len(right), right.shape[3]))
    gone = left_out(view, right, keys)
    if gone is not None:
        return Relation("keys-left-out", f"0 at {gone}, which attention leaves out",
                        f"softmax without {gone}", 1e-6)  # fmt: skip
    both = square & (view > 1e-12) & (right > 1e-12)
    dy = np.where(both, np.log(np.where(both, view, 1)), 0)
    dx = np.where(both, scores, 0)
    count = np.maximum(both.sum(-1, keepdims=True), 1)
    dy, dx = (np.where(both, z - z.sum(-1, keepdims=True) / count, 0) for z in (dy, dx))
    a = float((dy * dx).sum() / max((dx * dx).sum(), 1e-300))
    masked = np.where(keys[:, None, None, :], a * scores, -np.inf)
    error = _apart(reference, view, softmax(masked))
    if error <= tolerance:
        return Relation(
            "temperature", f"softmax of {a:.6g} × the scores", f"softmax({a:.6g}·s)", error
        )
    return None


def _formulas(reference, name, view, step, tolerance):
    """The op's formula with one operator, constant, operand or function changed."""
    if step is None:
        return None
    for formula, right, result in rewritten(step):
        if getattr(result, "shape", None) != view.shape:
            continue
        error = _apart(reference, view, result)
        if error <= tolerance:
            return Relation(
                "formula", f"{formula}, where {right} is right", f"y = {formula}", error
            )
    return None
