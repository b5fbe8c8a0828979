"""`compare`: the first difference between a PyTorch module and the model of a folder, explained.

The module runs unchanged and as a copy in float64, where a different formula is larger than
rounding. The recorded arrays are matched with the reference's quantities by value. The first
quantity that differs is explained by a mistake of the catalogue, or reported without a name.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minidistil.check import parameter_gradients as grad
from minidistil.check.align import DOUBLE, SHARP, SINGLE, Reference, align
from minidistil.check.diagnose import diagnose, what_is_known
from minidistil.check.dropout_check import dropped, random_from
from minidistil.check.families.family import program_of
from minidistil.check.findings import Diagnosis, Report, Row
from minidistil.check.match_weights import align as align_weights
from minidistil.check.program import stage_of
from minidistil.check.record import NotCallableError, doubled, evaluating, leaves, record
from minidistil.check.reference_batch import as_stored, load
from minidistil.check.returned import handed_out
from minidistil.testing import rms

FEW = 0.2  # below this share of the folder's parameters, a module is another model


STEPS = ("the reference", "the module", "alignment", "the first difference", "gradients")


def compare(
    module: Any,
    folder: str | Path,
    batch: Mapping[str, np.ndarray] | None = None,
    *,
    task: str | None = None,
    texts: Sequence[str] | None = None,
    teacher: str | Path | None = None,
    seed: int = 0,
    call: Callable | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Compare a torch module with the model of a folder  ->  Report.

    module: holds the folder's weights, under any names; forward takes input_ids and optionally
    attention_mask and token_type_ids. batch: a dict of integer arrays (B,T); by default `texts`, or
    random tokens with padding. teacher: the folder of a model whose layers may have been copied.
    call(module, inputs): runs a module whose forward takes other arguments. tell(step): called with
    each of STEPS as it begins.
    Raises ValueError for a folder without a model; the Report says why a comparison is impossible.
    """
    tell = tell or (lambda step: None)
    tell(STEPS[0])
    model = load(folder, task)
    family = program_of(model)
    batch = family.example(model, folder, texts, seed, module) if batch is None else batch
    batch = {name: batch[name] for name in family.reads if name in batch}
    call = call or family.call
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
    """The recorded runs of a module on the batch."""

    returned: list  # (name, tensor) of the run that is compared
    recorded: list  # its arrays
    tensors: dict  # its weights
    precision: str  # SINGLE; DOUBLE where the copy in float64 is compared
    as_is: list  # the arrays of the module in its own precision
    nondeterminism: Diagnosis | None  # of two runs that differ


def _compare(module, reference, layers, call, tell):
    with evaluating(module):
        tell(STEPS[1])
        run = _run(module, reference, call)
        tell(STEPS[2])
        arrays = {n: t.detach().double().numpy() for n, t in run.tensors.items()}
        params = reference.program.p
        weights = align_weights(arrays, params, reference.program.a.H)
        alignment = align(reference, run.recorded, run.returned, run.precision)
        if reason := _hopeless(alignment, weights, params, run.recorded):
            return Report.cannot(reason, _unmatched(alignment, weights, reference))
        tell(STEPS[3])
        report = _forward(reference, alignment, weights, run, layers)
        tell(STEPS[4])
        if run.nondeterminism is None:
            _backward(report, reference, weights, run)
        report.unmatched += _unmatched(alignment, weights, reference)
    return report


def _run(module, reference, call):
    """Run the module twice in its precision, then with gradients: in float64 if possible."""
    widths = reference.widths()
    returned, as_is = record(module, reference.batch, widths, call)
    _, again = record(module, reference.batch, widths, call)
    if nondeterminism := random_from(as_is, again):
        return ModuleRun(returned, as_is, leaves(module), SINGLE, as_is, nondeterminism)
    # A module that works in float32 alone is compared in float32, below.
    with doubled(module) as twin, suppress(NotCallableError):
        if twin is not None:
            returned, recorded = record(twin, reference.batch, widths, call, keep_graph=True)
            if not any(s.single for s in recorded):
                return ModuleRun(returned, recorded, leaves(twin), DOUBLE, as_is, None)
    returned, recorded = record(module, reference.batch, widths, call, keep_graph=True)
    return ModuleRun(returned, recorded, leaves(module), SINGLE, as_is, None)


def _hopeless(alignment, weights, params, recorded):
    """Why a comparison is impossible, or None."""
    if len(weights.found) < FEW * len(params) and not alignment.good:
        return (
            f"the module holds {len(weights.found)} of the folder's {len(params)} parameters and "
            f"computes none of its quantities; load the folder's weights into it first"
        )
    if not recorded:
        return "the module computes no array of the model's sizes; is it a torch module?"
    return None


def _unmatched(alignment, weights, reference):
    public = reference.program.names
    return [
        *(f"quantity {n}" for n in reference.values if n not in alignment.good),
        *(f"parameter {public[n]}" for n in weights.missing),
        *(f"weight {n} of the module" for n in weights.foreign),
    ]


# ------------------------------------------------------- forward


def _forward(reference, alignment, weights, run, layers):
    """A Report with the rows and the diagnosis of the forward."""
    first = alignment.first
    if run.nondeterminism is not None:
        rows, _ = _rows(reference, alignment, [], run.as_is)
        first = first or alignment.names[-1]
        return Report("differ", first, [run.nondeterminism], rows, where=run.nondeterminism.where)
    if first is None:
        rows, _ = _rows(reference, alignment, [], run.as_is)
        first, diagnosis, where = handed_out(reference, alignment, run.returned)
        return Report("differ" if first else "agree", first, diagnosis, rows, where=where)
    alignment, fits = _explained(reference, alignment, weights, run, layers)
    first = alignment.first
    rows, places = _rows(reference, alignment, fits, run.as_is)
    where = places.get(first) or _next_place(alignment, first)
    diagnosis = [_diagnosis(fit, where, first, reference) for fit in fits]
    diagnosis = diagnosis or dropped(reference, alignment, where)
    report = Report("differ", first, diagnosis, rows, where=where)
    if not diagnosis:
        report.evidence = _evidence(reference, alignment, first, rows, weights)
    return report


def _explained(reference, alignment, weights, run, layers):
    """(alignment, fits). A small difference may be below the rounding error of float32 where it
    begins. If no mistake explains it and the run was in float64, a tighter tolerance locates it."""
    fits = diagnose(reference, alignment, what_is_known(reference, alignment, weights, layers))
    if not fits and run.precision == DOUBLE:
        sharp = align(reference, run.recorded, run.returned, SHARP)
        again = diagnose(reference, sharp, what_is_known(reference, sharp, weights, layers))
        if again:
            return sharp, again
    return alignment, fits


def _rows(reference, alignment, fits, recorded):
    """([Row, …], {name: file and line}) of every quantity that is located in the module."""
    rows, places, last = [], {}, -1
    as_is = recorded if len(recorded) == len(alignment.index.recorded) else None
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
        where = places[name] = alignment.index.recorded[number].where
        if agrees:
            error = _own_error(reference, name, number, as_is, alignment)
        explained = reference.rounding[name]
        rows.append(Row(name, "forward", float(error), float(explained), agrees, where))
    return rows, places


def _own_error(reference, name, number, as_is, alignment):
    """The relative error of the module in its own precision."""
    exact = reference.values[name]
    array = (as_is or alignment.index.recorded)[number].value
    views = list(reference.frame.views(array, exact.shape))
    return min(reference.error(view, exact) for view in views)


def _next_place(alignment, first):
    """The line that follows the last quantity that agrees."""
    before = alignment.names[: alignment.names.index(first)]
    last = max((alignment.good[n] for n in before if n in alignment.good), default=-1)
    recorded = alignment.index.recorded
    return recorded[min(last + 1, len(recorded) - 1)].where


def _diagnosis(fit, where, first, reference):
    """The Diagnosis of a mistake that fits."""
    rest = f"{fit.left} still differ" if fit.left else "all others agree"
    error = reference.error(fit.values[first], reference.values[first])
    evidence = (
        f"with this mistake the reference reproduces {fit.gain} of the module's quantities from "
        f"{first} on, error {fit.error:.0e} (without it {first} differs by {error:.0e}); {rest}"
    )
    return Diagnosis(fit.mistake.id, fit.mistake.message(fit.value), where, evidence)


def _evidence(reference, alignment, first, rows, weights):
    """Measurements of a difference that no mistake explains, as a sentence."""
    before = alignment.names[: alignment.names.index(first)]
    good = [n for n in before if n in alignment.good]
    error = next((row.error for row in rows if row.name == first), None)
    size = "no array is near it" if error is None else f"its relative error is {error:.1e}"
    agreed = f"{len(good)} quantities before {first} agree, the last is {good[-1]}" if good else (
        f"{first} is the first quantity of all"
    )  # fmt: skip
    lacking = [reference.program.names[n] for n in weights.missing if n.startswith(stage_of(first))]
    holds = f"; the module does not hold the folder's {', '.join(lacking)}" if lacking else ""
    return f"{agreed}; {size}; no known mistake of this step gives the module's numbers{holds}"


# ------------------------------------------------------- gradients


def _backward(report, reference, weights, run):
    """Add the gradients' rows to the report, and the first that differs if the forward agrees."""
    found = grad.directions(reference, run.returned, reference.frame)
    double = run.precision == DOUBLE
    gradients = grad.gradients(reference, weights, run.tensors, found, double)
    tied = grad.tied(reference, gradients, found)
    public = reference.program.names
    for g in gradients:
        agrees = g.agrees or (
            tied is not None and tied[0] == "head-untied" and g.name == reference.program.word
        )
        row = Row(f"grad.{public[g.name]}", "gradient", g.error, g.explained, agrees, g.weight)
        report.rows.append(row)
    if report.verdict == "differ":
        return
    order = list(public)
    bad = sorted((g for g in gradients if not g.agrees), key=lambda g: order.index(g.name))
    if not bad:
        return
    last = bad[-1]  # backpropagation reaches the last parameter first
    report.verdict, report.first_difference = "differ", f"grad.{public[last.name]}"
    report.where = f"parameter {last.weight}"
    if tied and all(g.name == reference.program.word for g in bad):
        report.diagnosis = [Diagnosis(tied[0], tied[1], report.where, tied[2])]
        return
    zero = "no gradient arrives" if not rms(last.value) else f"relative error {last.error:.1e}"
    report.evidence = (
        f"every quantity of the forward agrees; of {len(gradients)} gradients {len(bad)} differ, "
        f"the nearest to the loss is that of {last.weight}: {zero}; look for detach, no_grad, "
        f".data or a copy of the weight"
    )
