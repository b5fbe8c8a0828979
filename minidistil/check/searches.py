"""The searches of `related`: each compares an array with a quantity of the reference, and with the
op that computes it, and returns a Relation or None."""

import numpy as np

from minidistil.check.formulas import fitted, rewritten
from minidistil.check.functions import FUNCTIONS, slope_inside
from minidistil.check.other_weights import SEEN, contexts, other_weights
from minidistil.check.reference_ops import layernorm
from minidistil.check.relations import PARTLY, Relation, by_line, relation
from minidistil.check.rows_moved import looked_up, moved
from minidistil.check.steps_inside import other_ops, replaced, terms
from minidistil.testing import rms

STATES = ("output", "embeddings", "embeddings_sum")  # the ends of hidden states' names


def explained(reference, name, view, call, tolerance):
    """The Relation of a view to a quantity that holds in every entry; None without one.

    call: the OpCall that computes the quantity, or None.
    """
    for search in SEARCHES:
        found = search(reference, name, view, call, tolerance)
        if found is not None:
            return found
    return None


def apart(reference, view, candidate):
    """The largest difference at real tokens, relative to the rms; infinite for another shape, and
    where a number is not finite."""
    if view.shape != getattr(candidate, "shape", None):
        return float("inf")
    real = reference.frame.real
    off = np.abs(real(view) - real(candidate)).max(initial=0)
    size = rms(real(view))  # infinite of a mask that is added
    return float(off / max(size, 1e-30)) if np.isfinite([off, size]).all() else float("inf")


# ------------------------------------------------------- of the quantity itself


def _related(reference, name, view, call, tolerance):
    frame = reference.frame
    right = reference.values[name]
    found = relation(frame.rows(view), frame.rows(right), tolerance)
    if found is None and name.endswith((".q", ".k", ".v")):  # by heads
        H = reference.values[f"{name[:-1]}scores"].shape[1]
        mine, exact = (frame.rows(x).reshape(-1, x.shape[2] // H) for x in (view, right))
        found = relation(mine, exact, tolerance)
        if found is not None and found.id != PARTLY:
            found = found._replace(says=f"in each head {found.says}")
    return None if found is None or found.id == PARTLY else found


def _composed(reference, name, view, call, tolerance):
    """The right one, or what its op reads, after one more layer of the model or activation."""
    right = reference.values[name]
    if right.ndim != 3:
        return None
    names = reference.program.names
    for site, result in other_ops(reference, right):
        if result.shape == view.shape and (error := apart(reference, view, result)) <= tolerance:
            layer = names[f"{site}.weight"].removesuffix(".weight")
            return Relation("layer-added", f"the right one after {layer}", f"{layer}(x)", error)
    activation = reference.program.right["activation"]
    named = {n: lambda x, n=n: activation(x, name=n) for n in ("gelu", "gelu_new")}
    for label, f in (named | FUNCTIONS).items():
        if (error := apart(reference, view, f(right))) <= tolerance:
            return Relation("function-applied", f"{label} of the right one", f"{label}(x)", error)
    return None


def _repeated(reference, name, view, call, tolerance):
    """A hidden state after layers that run once more."""
    program, right = reference.program, reference.values[name]
    layers = [n for n, stage in enumerate(program.stages) if stage.startswith("layer.")]
    if (
        not layers
        or right.ndim != 3
        or not name.endswith(("embeddings", "embeddings_sum", "output"))
    ):
        return None
    runs = {f"{program.stages[n]} once more": (n, n + 1) for n in layers}
    runs["all layers once more"] = (layers[0], layers[-1] + 1)
    for says, (start, stop) in runs.items():
        result = program.run(start=start, x=right, stop=stop)[None]
        if (error := apart(reference, view, result)) <= tolerance:
            return Relation("layer-repeated", f"the right one through {says}", says, error)
    return None


def _moved(reference, name, view, call, tolerance):
    """The right rows at other tokens."""
    if view.ndim != 3:
        return None
    if call is not None and call.op == "embedding_sum":
        return looked_up(reference.frame, view, call, tolerance)
    return moved(reference.frame, view, reference.values[name], tolerance)


def _by_line(reference, name, view, call, tolerance):
    """The right one with one number a row, or one vector in every row."""
    frame = reference.frame
    return by_line(frame.rows(view), frame.rows(reference.values[name]), tolerance)


# ------------------------------------------------------- of its op


def _replaced(reference, name, view, call, tolerance):
    """The same op on another input or with another parameter."""
    if call is None:
        return None
    public = reference.program.names
    for kind, right, other, result in replaced(reference, call):
        error = apart(reference, view, result)
        if error <= tolerance:
            if kind == "parameter":
                right, other = (
                    public.get(n) or public.get(f"{n}.weight", n).removesuffix(".weight")
                    for n in (right, other)
                )
            says = f"computed with {other} in place of {right}"
            return Relation(f"another-{kind}", says, f"{call.op} of {other}", error)
    return None


def _normed(reference, name, view, call, tolerance):
    """A product of its input after one more LayerNorm, without γ and β."""
    if call is None or call.op not in ("linear", "projection"):
        return None
    x, *parameters = call.args
    C = x.shape[-1]
    for eps in (1e-5, 1e-12, 1e-6):
        normed = layernorm(x, np.ones(C), np.zeros(C), eps=eps)
        error = apart(reference, view, call.function(normed, *parameters, **call.fixed))
        if error <= tolerance:
            says = f"computed from {call.names[0] or 'its input'} after one more LayerNorm"
            return Relation("extra-norm", f"{says}, ε = {eps:g}", f"{call.op} of LN(x)", error)
    return None


def _other_op(reference, name, view, call, tolerance):
    """Another layer of the model in the op's place."""
    if call is None or call.op not in ("linear", "projection", "layernorm"):
        return None
    public = reference.program.names
    for site, result in other_ops(reference, call.args[0]):
        if result.shape == view.shape and apart(reference, view, result) <= tolerance:
            layer = public[f"{site}.weight"].removesuffix(".weight")
            error = apart(reference, view, result)
            return Relation("another-layer", f"what {layer} computes", f"{layer}(x)", error)
    return None


def _terms(reference, name, view, call, tolerance):
    """The sum of the op's terms, with other factors."""
    parts = terms(call) if call is not None else []
    return _sum(reference, view, parts, tolerance) if parts else None


def _more_terms(reference, name, view, call, tolerance):
    """The right one, or the sum of its op's terms, and other quantities."""
    if view.ndim != 3:
        return None
    parts = terms(call) if call is not None else []
    others = {n: x for n, x in reference.values.items() if x.shape == view.shape and n != name}
    states = {n: x for n, x in others.items() if n.endswith(STATES)}
    table = reference.program.p.get("embeddings.position.weight", np.zeros((0, 0)))
    if len(table) >= view.shape[1] and table.shape[1] == view.shape[2]:
        others["position[column]"] = np.broadcast_to(table[: view.shape[1]], view.shape)
    one, right = [("x", reference.values[name])], parts or [("x", reference.values[name])]
    for more in ([*one, *states.items()], *([*right, other] for other in others.items())):
        found = _sum(reference, view, more, tolerance)
        if found is not None and found.formula.count("·") > 1:
            return found._replace(id="term-added", says="a sum with one more term")
    return None


def _sum(reference, view, parts, tolerance):
    """A Relation of a view that is a sum of (name, array) with factors; None of another."""
    real = reference.frame.real
    columns = np.stack([real(x) for _, x in parts] + [np.ones(real(view).size)], axis=1)
    if not np.isfinite(columns).all() or not np.isfinite(real(view)).all():
        return None
    if len(columns) < 4 * columns.shape[1]:
        return None
    factors, *_ = np.linalg.lstsq(columns, real(view), rcond=None)
    error = np.abs(columns @ factors - real(view)).max() / max(rms(real(view)), 1e-30)
    if not error <= tolerance:
        return None
    names = [n for n, _ in parts] + ["1"]
    kept = [(f, n) for f, n in zip(factors, names, strict=True) if abs(f) > 1e-6]
    formula = "y = " + " + ".join(f"{f:.6g}·{n}" for f, n in kept)
    says = "the sum of the right terms with other factors"
    return Relation("other-factors", says, formula, float(error))


def _functions(reference, name, view, call, tolerance):
    """Another function of the activation's input, or the right one of a multiple of it."""
    if call is None or call.op != "activation":
        return None
    x, real = call.args[0], reference.frame.real
    right = lambda z: call.function(z, **call.fixed)  # noqa: E731
    for label, f in FUNCTIONS.items():
        error = apart(reference, view, f(x))
        if error <= tolerance:
            return Relation("activation-other", f"another function: {label}", f"y = {label}", error)
    sigmoid = lambda z: z / (1 + np.exp(-z))  # noqa: E731
    for label, f in (("the activation", right), ("x·σ(x)", sigmoid)):
        a = slope_inside(f, real(view), real(x))
        scaled = f(a * x) if f is right else f(a * x) / a
        error = apart(reference, view, scaled)
        if error <= 100 * tolerance:
            return Relation("activation-other", f"{label} of {a:.6g}·x", f"y = f({a:.6g}·x)", error)
    return None


def _weights(reference, name, view, call, tolerance):
    """Attention weights over other keys or of other scores; the context of such."""
    layer, _, kind = name.rpartition(".")
    cross = "cross_" if kind.startswith("cross_") else ""
    right, scores = (reference.values.get(f"{layer}.{cross}{n}") for n in ("probs", "scores"))
    if name.endswith("probs"):
        return other_weights(reference.frame, view, right, scores, tolerance)
    if name.endswith("context"):
        square = np.broadcast_to(reference.frame.square_of(right.shape), right.shape)
        allowed = (right > SEEN) & square.any(axis=-1, keepdims=True)
        for says, weights in contexts(allowed, scores):
            error = apart(reference, view, call.on({0: weights}))
            if error <= tolerance:
                return Relation(
                    "other-keys", f"attention over {says}", f"softmax over {says}", error
                )
        if right.shape[2] == right.shape[3]:
            error = apart(reference, view, call.on({0: right.swapaxes(2, 3)}))
            if error <= tolerance:
                says = "the product of the transposed weights and the values"
                return Relation("weights-transposed", says, "y = pᵀ·v", error)
    return None


def _formulas(reference, name, view, call, tolerance):
    """The op's formula with one operator, constant, operand or function changed."""
    if call is None:
        return None
    real = reference.frame.real
    for search in (rewritten(call), fitted(call, real, real(view))):
        for formula, right, result in search:
            error = apart(reference, view, result)
            if error <= tolerance:
                says = f"{formula}, where {right} is right"
                return Relation("formula", says, f"y = {formula}", error)
    return None


def _weight(reference, name, view, call, tolerance):
    """A product with a weight whose rows or columns have other lengths."""
    if call is None or call.op not in ("linear", "projection"):
        return None
    x, weight, bias = call.args
    length = {axis: np.linalg.norm(weight, axis=axis, keepdims=True) for axis in (0, 1)}
    for says, other in (
        ("its rows scaled to length 1", weight / length[1]),
        ("its columns scaled to length 1", weight / length[0]),
        ("the opposite sign", -weight), ("its rows in reverse", weight[::-1]),
        ("its columns in reverse", weight[:, ::-1]),
    ):  # fmt: skip
        error = apart(reference, view, call.function(x, other, bias))
        if error <= tolerance:
            return Relation("weight-changed", f"computed with the weight with {says}",
                            f"{call.op} with W′", error)  # fmt: skip
    real = reference.frame.rows
    mine, right = real(view - bias), real(call.function(x, weight, 0 * bias))
    scale = (mine * right).sum(axis=0) / np.maximum((right * right).sum(axis=0), 1e-300)
    error = np.abs(mine - scale * right).max() / max(rms(mine), 1e-30)
    if error <= tolerance and len(mine) > 4:
        says = "computed with the weight's rows times one number each"
        return Relation("weight-changed", says, "y = g ⊙ (x·Wᵀ) + b", float(error))
    return None


SEARCHES = (_related, _replaced, _normed, _other_op, _terms, _functions, _weights, _formulas,
            _composed, _repeated, _moved, _more_terms, _weight, _by_line)  # fmt: skip
