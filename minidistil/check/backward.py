"""Location of a wrong backward inside a right forward.

The gradient of every quantity that a module computes is compared with the reference's, read from
the loss. The wrong op lies between the last right gradient and the first wrong one: an autograd
function of the module there is named.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check.align import DOUBLE, HEADS, SINGLE
from minidistil.check.autograd_graph import custom_functions
from minidistil.check.crossed import between, crossed
from minidistil.check.families.family import trace_of
from minidistil.check.findings import Diagnosis, Row
from minidistil.check.parameter_gradients import CUT, OF_A_WEIGHT
from minidistil.check.program import depends
from minidistil.check.relations import PARTLY, relation
from minidistil.io.counts import counted
from minidistil.testing import rms

RIGHT = {DOUBLE: 1e-6, SINGLE: 1e-3}  # the largest relative error of a right gradient
LOOKED_UP = "the embeddings' look-up"


class Seen(NamedTuple):
    """The gradient of one quantity in a module."""

    name: str
    tensor: object  # holds the quantity, in the module's graph
    value: np.ndarray  # its gradient, in the quantity's shape
    exact: np.ndarray


class Wrong(NamedTuple):
    """The first wrong gradient, and what is known of it."""

    op: str  # in words
    name: str  # of the gradient
    mine: np.ndarray  # as rows
    right: np.ndarray
    evidence: str


def locate_backward(comparison, reference, ran, found, bad):
    """Say which op's backward is wrong, where gradients of parameters are the first difference.

    found: the `directions` of the module's outputs. bad: [Gradient, …] of `compare_gradients`.
    """
    report, alignment = comparison.report, comparison.alignment
    named = any(d.id not in OF_A_WEIGHT for d in report.diagnosis)
    if named or not (report.first_difference or "").startswith("grad."):
        return
    outputs, ends = _ends(reference, found)
    if not outputs:
        return
    seen = _seen(reference, ran, outputs, ends, alignment)
    limit = RIGHT[alignment.precision]
    wrong = next((s for s in seen if _error(reference, s) > limit), None)
    if wrong is None:
        _parameter(report, ran, seen, outputs, bad[-1])
        return
    error, place = _error(reference, wrong), seen.index(wrong)
    nearer = seen[place - 1] if place else None
    report.rows.append(Row(f"gradient.{wrong.name}", "gradient", error, 0.0, False, None))
    report.first_difference = f"gradient.{wrong.name}"
    where = between(reference, wrong.name, [s.name for s in seen])
    report.evidence = (
        f"every quantity of the forward agrees; read from the loss, the gradient of {wrong.name} "
        f"is the first that differs, by {error:.1e} of its rms, {where}; look for detach, no_grad, "
        f".data, or the backward of a torch.autograd.Function"
    )
    starts = [nearer.tensor] if nearer else [tensor for tensor, *_ in outputs]
    functions = custom_functions(starts, wrong.tensor)
    if not rms(reference.frame.real(wrong.value)):
        report.diagnosis = [_cut(wrong.name, _reader(reference, wrong.name), report.where)]
    elif functions:
        ops = crossed(reference, wrong.name, nearer.name) if nearer else "the last step"
        rows = [reference.frame.rows(x) for x in (wrong.value, wrong.exact)]
        after = f", the last {nearer.name}" if nearer else ""
        evidence = f"nearer to the loss the gradient agrees for {counted(place, 'quantity')}{after}"
        _name(report, functions, Wrong(ops, f"∂{wrong.name}", *rows, evidence))


def _reader(reference, name):
    """The first quantity that is computed from a quantity."""
    order = list(reference.values)
    later = (n for n in order[order.index(name) + 1 :] if depends(n, name))
    return next(later, "the outputs")


def _cut(name, reader, where):
    """The Diagnosis of a gradient that stops on its way."""
    message = (
        f"No gradient passes from {reader} to {name}: the forward is right, and cut from the "
        f"graph there.\nyours: ∂{name} = 0\nright: ∂{name} as autograd gives it\n"
        f"fix: look for detach, no_grad, .data, .item(), or a copy between {name} and what is "
        f"computed from it"
    )
    evidence = f"the gradient of {name} is 0 or does not exist; every quantity agrees"
    return Diagnosis(CUT, message, where, evidence)


def _name(report, functions, wrong):
    """Set the report's Diagnosis: an autograd function that gives a Wrong gradient."""
    mine, right = wrong.mine, wrong.right
    found = relation(mine, right)
    if not rms(mine):
        how = "0"
    elif found is None or found.id == PARTLY:
        how = f"off by {rms(mine - right) / max(rms(right), 1e-30):.1e} of its rms"
        how += f", {found.says}" if found else ""
    else:
        how = found.says
    names = " or ".join(f"{name} ({where})" for name, where in functions)
    report.where = functions[0][1]
    message = (
        f"The backward of a torch.autograd.Function is wrong, that of {wrong.op}; its forward is "
        f"right.\nyours: {wrong.name} is {how}\nright: {wrong.name} as autograd gives it\n"
        f"fix: correct the backward of {names}; torch.autograd.gradcheck tests it in float64"
    )
    report.diagnosis = [Diagnosis("backward-wrong", message, report.where, wrong.evidence)]


def _parameter(report, ran, seen, outputs, wrong):
    """Every gradient of a quantity is right: the backward is wrong towards a parameter alone.

    wrong: its Gradient.
    """
    nearer = next((s for s in seen if s.name == _output_of(wrong.name)), None)
    report.evidence += (
        f"; the gradient of every quantity that is seen agrees ({len(seen)}), so the step towards "
        f"{wrong.weight} alone is wrong, or the backward of a torch.autograd.Function there"
    )
    starts = [nearer.tensor] if nearer else [tensor for tensor, *_ in outputs]
    if functions := custom_functions(starts, ran.weights[wrong.weight]):
        site = wrong.name.rpartition(".")[0]
        looked_up = site.startswith("embeddings.") and site != "embeddings.norm"
        arrays = [x if x.ndim == 2 else x.reshape(1, -1) for x in (wrong.value, wrong.exact)]
        op = LOOKED_UP if looked_up else site
        evidence = f"the gradient of every quantity that is seen agrees ({len(seen)})"
        _name(report, functions, Wrong(op, f"∂{wrong.weight}", *arrays, evidence))


def _output_of(role):
    """The quantity that an op with this parameter computes."""
    site = role.rpartition(".")[0]
    if role.startswith("embeddings."):
        return "embeddings" if site == "embeddings.norm" else "embeddings_sum"
    return {"decoder": "logits"}.get(site, site.replace("output_norm", "output"))


def _ends(reference, found):
    """(the outputs from which the trace of this family starts, their cotangents under its
    names)."""
    by_name = {name: (tensor, d, name, exact) for tensor, d, name, exact in found}
    if "logits" in by_name:
        return [by_name["logits"]], {"logits": by_name["logits"][3]}
    for pair in (("start_logits", "end_logits"), HEADS):
        if set(pair) <= set(by_name):
            outputs = [by_name[name] for name in pair]
            return outputs, {name: d for *_, name, d in outputs}
    if "spans" in by_name:
        d = by_name["spans"][3]
        ends = {"start_logits": d[..., :1], "end_logits": d[..., 1:]}
        return [by_name["spans"]], ends
    body = next((n for n in reference.body if n in by_name), None)
    return ([by_name[body]], {"last_hidden_state": by_name[body][3]}) if body else ([], {})


def _seen(reference, ran, outputs, ends, alignment):
    """[Seen, …] of the quantities in the module's graph, read from the loss."""
    exact = trace_of(reference.model).gradients(reference.program, reference.values, ends)
    holders = {n: _holders(reference, ran, n, alignment) for n in exact if n in alignment.good}
    tensors = [tensor for each in holders.values() for tensor, _ in each]
    grads = iter(_gradients(outputs, tensors))
    seen = []
    for name, each in holders.items():
        got = [(tensor, layout, next(grads)) for tensor, layout in each]
        got = [
            (tensor, np.zeros(layout.shape) if g is None else g.reshape(-1)[layout])
            for tensor, layout, g in got
        ]
        if got:  # of copies, the one that arrives in the outputs as the quantity does
            tensor, value = min(got, key=lambda pair: rms(pair[1] - exact[name]))
            seen.append(Seen(name, tensor, value, exact[name]))
    order = list(reference.values)
    return sorted(seen, key=lambda s: -order.index(s.name))


def _holders(reference, ran, name, alignment):
    """[(tensor, layout)] of a quantity in the graph, unchanged since it was recorded."""
    exact, frame, found = reference.values[name], reference.frame, []
    _, owners, _, _ = alignment.index.kind(exact.shape)
    for number in dict.fromkeys(map(int, owners)):
        tensor, value = ran.run.tensors[number], alignment.index.recorded[number].value
        if tensor is None or not tensor.requires_grad:
            continue
        layout = frame.layout(value, exact)
        if layout is None:
            continue
        real = frame.real(value.reshape(-1)[layout]) - frame.real(exact)
        near = rms(real) <= reference.tolerance(name, alignment.precision) * rms(frame.real(exact))
        if near and np.array_equal(tensor.detach().cpu().double().numpy(), value):
            found.append((tensor, layout))
    return found


def _gradients(outputs, tensors):
    """The gradients of the outputs' cotangents with respect to tensors, or None for each."""
    import torch

    if not tensors:
        return []
    grads = torch.autograd.grad(
        [tensor for tensor, *_ in outputs], tensors, allow_unused=True, retain_graph=True,
        grad_outputs=[torch.as_tensor(d).to(tensor.dtype) for tensor, d, *_ in outputs],
    )  # fmt: skip
    return [None if g is None else g.detach().cpu().double().numpy() for g in grads]


def _error(reference, seen):
    """The error of a quantity's gradient at real tokens, relative to its rms."""
    mine, exact = reference.frame.real(seen.value), reference.frame.real(seen.exact)
    return float(rms(mine - exact) / max(rms(exact), 1e-30))
