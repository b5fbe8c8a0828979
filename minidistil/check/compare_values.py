"""The comparison of an implementation's values with the reference's: align, compare, diagnose.

Nothing here knows where the values come from. For a PyTorch module they are recorded by
`module_run.py`; an implementation in any other language writes them into a file:

    reference = Reference(model, batch)                     # the batch that both sides ran
    recording = Recording(recorded, returned, weights, SINGLE)
    comparison = compare_values(reference, recording)       # forward and outputs
    compare_gradients(comparison, reference, {weight: gradient}, cotangents)
    report = conclude(comparison, reference, trainable)

`recorded` is any subset of the intermediate values, in any order and under any names; `returned`
the outputs, which must be there; `weights` and gradients under the implementation's own names.
`cotangents` {quantity: array} is the gradient of the loss with respect to the outputs.
"""

from dataclasses import replace
from typing import NamedTuple

from minidistil.check.align import DOUBLE, SHARP, Alignment, align
from minidistil.check.diagnose import diagnose, what_is_known
from minidistil.check.dropout_check import dropped
from minidistil.check.findings import Diagnosis, Report
from minidistil.check.located import between, next_place, rows_of
from minidistil.check.match_weights import ModuleWeights
from minidistil.check.match_weights import align as align_weights
from minidistil.check.mistakes.registry import format_value
from minidistil.check.not_compared import gradients_left_out
from minidistil.check.not_finite import not_finite
from minidistil.check.program import stage_of
from minidistil.check.related import related
from minidistil.check.relations import partly
from minidistil.check.returned import answered, named, outputs, row_of
from minidistil.io.counts import counted

FEW = 0.2  # below this share of the folder's parameters, an implementation is another model


class ForwardComparison(NamedTuple):
    """A report under way, and what it rests on."""

    report: Report
    alignment: Alignment
    weights: ModuleWeights
    outputs: list
    other_form: list  # why some gradients cannot be compared: filled by `compare_gradients`


def compare_values(reference, recording, layers=None) -> ForwardComparison:
    """Compare recorded and returned arrays with the reference's quantities  ->  ForwardComparison.

    recording: a Recording. layers: the parameters of a teacher's layers, by role.
    """
    program, params = reference.program, reference.program.p
    weights = align_weights(recording.weights or {}, params, program.a.H, program.ways)
    if recording.weights is None:
        weights = weights._replace(missing=[])
    alignment = align(reference, recording)
    found = outputs(reference, recording.returned, recording.precision)
    if any(o.quantity == "loss" and not o.agrees for o in found):
        alignment = _without_loss(alignment)  # the right one is a step on the way to it
    if reason := _hopeless(alignment, weights, params, recording):
        report = Report.cannot(reason)
    else:
        report = _forward(reference, alignment, weights, recording, layers)
        _returned(report, reference, found, recording.precision)
        _finite(report, reference, alignment, recording)
    report.unmatched += _unmatched(reference, report, weights, found)
    report.unmatched += recording.said
    return ForwardComparison(report, alignment, weights, found, [])


def _without_loss(alignment):
    """The alignment where the loss that is returned is another than the one that is computed."""
    good = {name: number for name, number in alignment.good.items() if name != "loss"}
    return alignment._replace(good=good, first=alignment.first or "loss")


def _hopeless(alignment, weights, params, recording):
    """Why a comparison is impossible, or None."""
    known = recording.weights is not None
    if known and len(weights.found) < FEW * len(params) and not alignment.good:
        return (
            f"the module holds {len(weights.found)} of the folder's "
            f"{counted(len(params), 'parameter')} and computes none of its quantities; load the "
            f"folder's weights into it first"
        )
    if not recording.recorded and not recording.returned:
        return "the module computes no array of the model's sizes; is it a torch module?"
    return None


def _unmatched(reference, report, weights, found):
    """What the forward's comparison leaves out, for the line "not compared"."""
    public = reference.program.names
    compared = {row.name for row in report.rows} | {o.quantity for o in found}
    return [
        *(f"quantity {n}" for n in reference.values if n not in compared),
        *(f"parameter {public[n]}" for n in weights.missing),
        *(f"weight {n} of the module" for n in weights.foreign),
        *(f"returned {o.label} of shape {o.shape}" for o in found if o.quantity is None),
    ]


# ------------------------------------------------------- forward


def _forward(reference, alignment, weights, recording, layers):
    """A Report with the rows and the diagnosis of the forward."""
    first = alignment.first
    if first is None:
        return Report("agree", rows=rows_of(reference, alignment, {}, recording.as_is)[0])
    alignment, fits = _explained(reference, alignment, weights, recording, layers)
    first = alignment.first
    wrong = fits[0][0].values if fits else {}
    rows, places = rows_of(reference, alignment, wrong, recording.as_is)
    where = places.get(first) or next_place(alignment, first)
    diagnosis = [_diagnosis(fit, where, first, reference) for fit in fits]
    if len(diagnosis) > 1:
        same = "; the same numbers follow from " + " and from ".join(d.id for d in diagnosis)
        diagnosis = [replace(d, evidence=d.evidence + same) for d in diagnosis]
    diagnosis = diagnosis or dropped(reference, alignment, where)
    diagnosis = diagnosis or related(reference, alignment, where)
    report = Report("differ", first, diagnosis, rows, where=where)
    report.arises = between(alignment, rows)
    if not diagnosis:
        report.evidence = _evidence(reference, alignment, first, rows, weights)
    return report


def _explained(reference, alignment, weights, recording, layers):
    """(alignment, fits). A small difference may be below the rounding error of float32 where it
    begins. If no mistake explains it and the run was in float64, a tighter tolerance locates it."""
    fits = diagnose(reference, alignment, what_is_known(reference, alignment, weights, layers))
    if not fits and recording.precision == DOUBLE:
        sharp = align(reference, recording, SHARP)
        sharp = _without_loss(sharp) if alignment.first == "loss" else sharp
        again = diagnose(reference, sharp, what_is_known(reference, sharp, weights, layers))
        if again:
            return sharp, again
    return alignment, fits


def _diagnosis(forms, where, first, reference):
    """The Diagnosis of a mistake that fits, in one or more of its forms."""
    fit, *others = forms
    begin = f", the first {fit.left[0]}" if fit.left else ""
    left = counted(len(fit.left), "quantity", "still differs")
    rest = f"{left}{begin}" if fit.left else "all others agree"
    names = list(reference.values)
    seen = next(n for n in names[names.index(first) :] if n in fit.values)
    error = reference.error(fit.values[seen], reference.values[seen])
    alone = f" in {', '.join(fit.stages)} alone, not in {', '.join(fit.spared)},"
    evidence = (
        f"with this mistake{alone if fit.spared else ''} the reference reproduces {fit.gain} of "
        f"your quantities from {first} on, error {fit.error:.0e} (without it {first} "
        f"differs by {error:.0e}); {rest}"
    )
    alike = [format_value(f.value) for f in others if isinstance(f.value, str | int | float)]
    if alike:
        evidence += f"; the same numbers follow from the form {' or '.join(alike[:3])}"
    return Diagnosis(fit.mistake.id, fit.mistake.message(fit.value), where, evidence)


def _evidence(reference, alignment, first, rows, weights):
    """Measurements of a difference that no mistake explains, as a sentence."""
    before = alignment.names[: alignment.names.index(first)]
    good = [n for n in before if n in alignment.good]
    error = next((row.error for row in rows if row.name == first), None)
    size = "no array is near it" if error is None else f"its relative error is {error:.1e}"
    agreed = f"{first} is the first quantity of all"
    if good:
        agreed = f"{counted(len(good), 'quantity', 'agrees')} before {first}, the last {good[-1]}"
    lacking = [reference.program.names[n] for n in weights.missing if n.startswith(stage_of(first))]
    last = max((alignment.good[n] for n in good), default=-1)
    near, exact = alignment.index.nearest(reference.values[first], last), reference.values[first]
    as_rows = reference.frame.rows
    size += "" if near is None else partly(as_rows(near[2]), as_rows(exact))
    holds = f"; the module does not hold the folder's {', '.join(lacking)}" if lacking else ""
    return f"{agreed}; {size}; no known mistake of this step gives your numbers{holds}"


# ------------------------------------------------------- outputs


def _returned(report, reference, found, precision):
    """Add the rows of the outputs, and the first that differs if the forward agrees."""
    for output in found:
        if output.quantity is None:
            continue
        row = row_of(output, reference)
        report.rows.append(row)
        if row.agrees or report.verdict != "agree":
            continue
        report.verdict, report.first_difference, report.where = "differ", row.name, row.where
        report.diagnosis = named(output, reference, precision)
        report.evidence = (
            f"every quantity inside agrees; {output.label} differs from {output.quantity} by "
            f"{output.error:.1e}, relative to its rms{_partly(reference, output)}"
        )


def _partly(reference, output):
    """What is right of an output that differs, as evidence."""
    rows, exact = reference.frame.rows, reference.values[output.quantity]
    return next((s for v in output.views if (s := partly(rows(v), rows(exact)))), "")


def _finite(report, reference, alignment, recording):
    """Say where NaN begins, unless a mistake has been named."""
    begun = not_finite(reference, alignment, recording)
    if begun is None or report.diagnosis:
        return
    name, diagnosis = begun
    report.verdict, report.diagnosis, report.where = "differ", [diagnosis], diagnosis.where
    report.first_difference = name


def conclude(comparison, reference, trainable) -> Report:
    """The verdict: "agree" only where outputs were compared, and gradients where there are any.

    trainable: the names of the weights that require a gradient, or whose gradients are written.
    """
    report, found = comparison.report, comparison.outputs
    left = list(gradients_left_out(comparison, reference, set(trainable)))
    if left and any(not o.agrees for o in found):
        others = "other " * any(row.kind == "gradient" for row in report.rows)
        left = [f"the {others}gradients, as the outputs differ"]
    report.unmatched += left
    if report.verdict != "agree":
        return report
    if not answered(reference, found):
        shapes = ", ".join(f"{o.label} {o.shape}" for o in found) or "no array"
        sizes = " or ".join(f"{n} {reference.values[n].shape}" for n in reversed(reference.ends))
        return _undecided(report, f"the outputs are {shapes}; the task returns {sizes}")
    compared = {row.where for row in report.rows if row.kind == "gradient"}
    if trainable and not compared:
        return _undecided(
            report, "no gradient was compared: none arrives at the outputs, as under no_grad or "
            "after detach; requires_grad_(False) says that none is wanted"
        )  # fmt: skip
    if comparison.other_form:
        return _undecided(report, comparison.other_form[0])
    return report


def _undecided(report, why):
    """A forward that agrees, and a comparison that is incomplete."""
    report.reason = f"{counted(len(report.rows), 'quantity', 'agrees')}, and {why}"
    report.verdict = "cannot-compare"
    return report
