"""`compare`: where does a PyTorch module differ from the model of a folder, and why?

The module runs once as it is and once as a copy in float64, where a difference of formula stands
apart from rounding. What it computes is recorded, found again among the reference's quantities by
value, and the first that differs is explained by the catalogue of mistakes, or not at all.
"""

from typing import NamedTuple

import numpy as np

from minidistil.check import parameter_gradients as grad
from minidistil.check.align import DOUBLE, SHARP, SINGLE, Reference, align
from minidistil.check.diagnose import diagnose, what_is_known
from minidistil.check.dropout_check import dropped, random_from
from minidistil.check.findings import Diagnosis, Report, Row
from minidistil.check.match_weights import align as align_weights
from minidistil.check.program import check_family, stage_of
from minidistil.check.record import NotCallableError, doubled, evaluating, leaves, record
from minidistil.check.reference_batch import READ, as_stored, example, load
from minidistil.check.returned import handed_out
from minidistil.testing import rms

FEW = 0.2  # a module that holds less of the folder's parameters is another model


STEPS = ("the reference", "the module", "finding its numbers", "the first difference", "gradients")


def compare(
    module, folder, batch=None, *, task=None, texts=None, teacher=None, seed=0, call=None, tell=None
):
    """Compare a torch module with the model of a folder  ->  Report.

    module: holds the folder's weights, under any names; forward takes input_ids and, as it likes,
    attention_mask and token_type_ids. batch: a dict of integer arrays (B,T); by default random
    words, padded, or `texts`. teacher: the folder of a model whose layers may have been copied.
    call(module, inputs): runs a module whose forward takes other arguments. tell(step): hears each
    of STEPS as it begins.
    Raises ValueError for a folder that is no model; what hinders a comparison is in the Report.
    """
    tell = tell or (lambda step: None)
    tell(STEPS[0])
    model = load(folder, task)
    check_family(model)
    batch = example(model, folder, texts, seed) if batch is None else batch
    batch = {name: batch[name] for name in READ if name in batch}
    reference = Reference(as_stored(model, module), batch)
    layers = _layers(load(teacher, task)) if teacher else None
    try:
        return _compare(module, reference, layers, call, tell)
    except NotCallableError as error:
        return Report.cannot(str(error))


def _layers(model):
    """The parameters of each layer by role, float64, as `Program` takes them."""
    named = model.named_by_role()
    layers = [{} for _ in range(model.config.architecture.L)]
    for name, x in named.items():
        if name.startswith("layer."):
            _, i, role = name.split(".", 2)
            layers[int(i)][role] = x.astype(np.float64)
    return layers


class ModuleRun(NamedTuple):
    """A module's runs on the batch."""

    returned: list  # (name, tensor) of the run that decides
    seen: list  # its arrays
    tensors: dict  # its weights
    precision: object  # SINGLE, or DOUBLE where a copy in float64 decides
    as_is: list  # the arrays of the module itself
    chance: object  # the Diagnosis of two runs that differ, or None


def _compare(module, reference, layers, call, tell):
    with evaluating(module):
        tell(STEPS[1])
        run = _run(module, reference, call)
        tell(STEPS[2])
        arrays = {n: t.detach().double().numpy() for n, t in run.tensors.items()}
        params = {n: p.astype(np.float64) for n, p in reference.model.named_by_role().items()}
        weights = align_weights(arrays, params, reference.program.a.H)
        alignment = align(reference, run.seen, run.returned, run.precision)
        if reason := _hopeless(alignment, weights, params, run.seen):
            return Report.cannot(reason, _unmatched(alignment, weights, reference))
        tell(STEPS[3])
        report = _forward(reference, alignment, weights, run, layers)
        tell(STEPS[4])
        if run.chance is None:
            _backward(report, reference, weights, run)
        report.unmatched += _unmatched(alignment, weights, reference)
    return report


def _run(module, reference, call):
    """Twice as it is, and once more with gradients: in float64 if nothing in it stays less."""
    widths = reference.widths()
    returned, as_is = record(module, reference.batch, widths, call)
    _, again = record(module, reference.batch, widths, call)
    if chance := random_from(as_is, again):
        return ModuleRun(returned, as_is, leaves(module), SINGLE, as_is, chance)
    with doubled(module) as twin:
        try:
            if twin is not None:
                returned, seen = record(twin, reference.batch, widths, call, keep_graph=True)
                if not any(s.single for s in seen):
                    return ModuleRun(returned, seen, leaves(twin), DOUBLE, as_is, None)
        except NotCallableError:
            pass  # something in it insists on float32, so the module itself decides
    returned, seen = record(module, reference.batch, widths, call, keep_graph=True)
    return ModuleRun(returned, seen, leaves(module), SINGLE, as_is, None)


def _hopeless(alignment, weights, params, seen):
    """Why nothing can be compared, or None."""
    if len(weights.found) < FEW * len(params) and not alignment.good:
        return (
            f"the module holds {len(weights.found)} of the folder's {len(params)} parameters and "
            f"computes none of its quantities; load the folder's weights into it first"
        )
    if not seen:
        return "the module computes no array of the model's sizes; is it a torch module?"
    return None


def _unmatched(alignment, weights, reference):
    public = reference.model.names
    return [
        *(f"quantity {n}" for n in reference.values if n not in alignment.good),
        *(f"parameter {public[n]}" for n in weights.missing),
        *(f"weight {n} of the module" for n in weights.foreign),
    ]


# ------------------------------------------------------- forward


def _forward(reference, alignment, weights, run, layers):
    """A Report with the rows and the diagnosis of the forward."""
    first = alignment.first
    if run.chance is not None:
        rows, _ = _rows(reference, alignment, [], run.as_is)
        first = first or alignment.names[-1]
        return Report("differ", first, [run.chance], rows, where=run.chance.where)
    if first is None:
        rows, _ = _rows(reference, alignment, [], run.as_is)
        first, diagnosis, where = handed_out(reference, alignment, run.returned)
        return Report("differ" if first else "agree", first, diagnosis, rows, where=where)
    alignment, fits = _explained(reference, alignment, weights, run, layers)
    first = alignment.first
    rows, places = _rows(reference, alignment, fits, run.as_is)
    where = places.get(first) or _next_place(alignment, first)
    diagnosis = [_said(fit, where, first, reference) for fit in fits]
    diagnosis = diagnosis or dropped(reference, alignment, where)
    report = Report("differ", first, diagnosis, rows, where=where)
    if not diagnosis:
        report.evidence = _evidence(reference, alignment, first, rows, weights)
    return report


def _explained(reference, alignment, weights, run, layers):
    """(alignment, fits). A small difference may hide under float32's rounding at first: where
    nothing explains it, and the run was in float64, it is sought once more with a sharper eye."""
    fits = diagnose(reference, alignment, what_is_known(reference, alignment, weights, layers))
    if not fits and run.precision == DOUBLE:
        sharp = align(reference, run.seen, run.returned, SHARP)
        again = diagnose(reference, sharp, what_is_known(reference, sharp, weights, layers))
        if again:
            return sharp, again
    return alignment, fits


def _rows(reference, alignment, fits, seen):
    """([Row, …], {name: file and line}) of every quantity that can be placed in the module."""
    rows, places, last = [], {}, -1
    as_is = seen if len(seen) == len(alignment.index.seen) else None
    wrong = fits[0].values if fits else {}
    begun = False
    for name in alignment.names:
        exact = reference.values[name]
        begun = begun or name == alignment.first
        number = alignment.good.get(name)
        agrees, error = number is not None, 0.0
        if number is None and name in wrong and wrong[name].shape == exact.shape:
            tolerance = reference.tolerance(name, alignment.precision)
            number, _ = alignment.index.match(wrong[name], tolerance)
            if number is not None:
                error = reference.error(wrong[name], exact)
        if number is None and begun:
            near = alignment.index.nearest(exact, last)
            if near is not None and near[1] < 1.0:
                number, error, _ = near
        if number is None:
            continue
        last = max(last, number)
        where = places[name] = alignment.index.seen[number].where
        if agrees:
            error = _own_error(reference, name, number, as_is, alignment)
        explained = reference.rounding[name]
        rows.append(Row(name, "forward", float(error), float(explained), agrees, where))
    return rows, places


def _own_error(reference, name, number, as_is, alignment):
    """How far the module itself, in its own precision, is from the exact quantity."""
    exact = reference.values[name]
    array = (as_is or alignment.index.seen)[number].value
    views = list(reference.frame.views(array, exact.shape))
    return min(reference.error(view, exact) for view in views)


def _next_place(alignment, first):
    """The line that follows the last quantity that agrees."""
    before = alignment.names[: alignment.names.index(first)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    seen = alignment.index.seen
    return seen[min(last + 1, len(seen) - 1)].where


def _said(fit, where, first, reference):
    rest = f"{fit.left} still differ" if fit.left else "all the rest agrees"
    error = reference.error(fit.values[first], reference.values[first])
    evidence = (
        f"with this mistake the reference gives {fit.gain} of the module's quantities from {first} "
        f"on, to {fit.error:.0e} (without it {first} is {error:.0e} away); {rest}"
    )
    return Diagnosis(fit.mistake.id, fit.mistake.message(fit.value), where, evidence)


def _evidence(reference, alignment, first, rows, weights):
    """What is known of a difference that no mistake explains."""
    before = alignment.names[: alignment.names.index(first)]
    good = [n for n in before if n in alignment.good]
    error = next((row.error for row in rows if row.name == first), None)
    size = f"it is {error:.1e} of its size away" if error is not None else "no array is like it"
    seen = f"{len(good)} quantities before {first} agree, the last is {good[-1]}" if good else (
        f"{first} is the first quantity of all"
    )  # fmt: skip
    lacking = [reference.model.names[n] for n in weights.missing if n.startswith(stage_of(first))]
    holds = f"; the module does not hold the folder's {', '.join(lacking)}" if lacking else ""
    return f"{seen}; {size}; no known mistake of this step gives the module's numbers{holds}"


# ------------------------------------------------------- gradients


def _backward(report, reference, weights, run):
    """Add the gradients' rows to the report, and the first that differs if the forward agrees."""
    found = grad.directions(reference, run.returned, reference.frame)
    double = run.precision == DOUBLE
    gradients = grad.gradients(reference, weights, run.tensors, found, double)
    tied = grad.tied(reference, gradients, found)
    public = reference.model.names
    for g in gradients:
        agrees = g.agrees or (tied is not None and tied[0] == "head-untied" and g.name == grad.WORD)
        row = Row(f"grad.{public[g.name]}", "gradient", g.error, g.explained, agrees, g.weight)
        report.rows.append(row)
    if report.verdict == "differ":
        return
    order = list(public)
    bad = sorted((g for g in gradients if not g.agrees), key=lambda g: order.index(g.name))
    if not bad:
        return
    last = bad[-1]  # the gradients come back from the loss, so the last parameter is the first
    report.verdict, report.first_difference = "differ", f"grad.{public[last.name]}"
    report.where = f"parameter {last.weight}"
    if tied and all(g.name == grad.WORD for g in bad):
        report.diagnosis = [Diagnosis(tied[0], tied[1], report.where, tied[2])]
        return
    zero = "no gradient arrives" if not rms(last.value) else f"{last.error:.1e} of its size away"
    report.evidence = (
        f"every quantity of the forward agrees; of {len(gradients)} gradients {len(bad)} differ, "
        f"nearest to the loss that of {last.weight}: {zero}; look for detach, no_grad, .data or a "
        f"copy of the weight on the way"
    )
