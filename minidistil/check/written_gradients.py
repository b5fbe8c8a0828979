"""Written gradients against the reference's, of quantities and of parameters.

The loss is that of `trace_values`. The gradients of quantities locate a wrong backward: it lies
between the last one that agrees and the first that differs, read from the loss to the input.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.check.align import SINGLE, Reference
from minidistil.check.compare_values import ForwardComparison
from minidistil.check.crossed import between
from minidistil.check.findings import Diagnosis, Row
from minidistil.check.pair_gradients import Part, alike, paired, parameter_pieces, split
from minidistil.check.parameter_gradients import compare_gradients
from minidistil.check.trace_values import inputs_of
from minidistil.io.counts import counted
from minidistil.model.task_loss import IGNORED
from minidistil.testing import FLOOR, rms

OF_THE_LOSS = ("logits", "start_logits", "end_logits")  # a body's: its last hidden states
LABELLED = "the mean over the labels"
UNLABELLED = "half the sum of squares of the last hidden states"  # of a body
SAME = 1e-4  # relative; gradients of one loss times a number share the factor far more closely


def compare_written_gradients(
    comparison: ForwardComparison,
    reference: Reference,
    arrays: Mapping[str, np.ndarray],
    truth: tuple[Mapping, Mapping],
) -> list[str]:
    """Add the rows of written gradients to a comparison's report, and the first that differs if
    the forward agrees  ->  the names of the arrays that were compared.

    arrays: {name: gradient}. truth: `values_and_gradients` in float64 and in float32.
    """
    report, public = comparison.report, reference.program.names
    arrays = {name: np.asarray(x, np.float64) for name, x in arrays.items()}
    of = "parameter_gradient."
    named = {n.removeprefix(of): x for n, x in truth[0].items() if n.startswith(of)}
    parameters = reference.program.by_role(reference.model, named)
    places = {row.name: row.where for row in report.rows if row.kind == "forward"}
    pairs = _quantity_pairs(reference, arrays, parameters, truth, places)
    of_quantities = {part.name for part, _ in pairs}
    rest = {name: x for name, x in arrays.items() if name not in of_quantities}
    weights = parameter_pieces(rest, parameters, public, reference.program.a.H)
    _quantities(comparison, reference, pairs, truth)
    ends = [n for n in OF_THE_LOSS if n in reference.values] or reference.body
    cotangents = {n: truth[0][f"gradient.{n}"] for n in ends}
    compare_gradients(comparison._replace(weights=weights), reference, rest, cotangents)
    mine = [(part.value, _real(reference, truth[0], q)) for part, q in pairs]
    mine += [(p.part(rest[p.name]), parameters[p.same[0]]) for p in weights.pieces]
    _name_factor(report, reference, mine)
    report.unmatched += [f"unpaired {n}" for n, x in weights.foreign.items() if x.any()]
    if arrays:
        report.unmatched += [f"unwritten {public[c]}" for c in weights.missing]
    return [name for name in arrays if name not in weights.foreign]


# ------------------------------------------------------- gradients of quantities


def _real(reference, values, name):
    """A quantity's gradient at the real tokens, flat, in float64."""
    return np.asarray(reference.frame.real(values[f"gradient.{name}"]), np.float64)


def _quantity_pairs(reference, arrays, parameters, truth, places):
    """[(Part, quantity)] of the arrays that are more alike to gradients of quantities than to
    those of parameters. places: {quantity: the name of the array that holds its value}."""
    names = [n for n in reference.values if f"gradient.{n}" in truth[0]]
    exact, parts = {n: _real(reference, truth[0], n) for n in names}, []
    for name, x in arrays.items():
        best, most = None, split(name, x, parameters, reference.program.a.H)[1]
        for n in names:
            for view in reference.frame.views(x, truth[0][f"gradient.{n}"].shape):
                value = reference.frame.real(view)
                score = alike(value, exact[n])
                if 0 < score >= most - 1e-6:  # the cosine of rounded arrays
                    best, most = Part(name, None, value), score
        parts += [] if best is None else [best]
    return paired(parts, exact, {n: (n, places.get(n, n)) for n in names})


def _quantities(comparison, reference, pairs, truth):
    """Add the rows of quantities' gradients, and the first that differs, read from the loss."""
    report, order = comparison.report, list(reference.values)
    factor = 3 if comparison.alignment.precision == SINGLE else 1
    pairs, bad = sorted(pairs, key=lambda pair: -order.index(pair[1])), []
    for part, name in pairs:
        exact = _real(reference, truth[0], name)
        size = max(rms(exact), 1e-30)
        error = rms(part.value - exact) / size
        rounding = rms(_real(reference, truth[1], name) - exact) / size
        agrees = bool(error <= 3 * FLOOR + factor * rounding)
        row = Row(f"gradient.{name}", "gradient", float(error), float(rounding), agrees, part.name)
        report.rows.append(row)
        bad += [] if agrees else [(name, row)]
    if report.verdict != "agree" or not bad:
        return
    name, row = bad[0]
    report.verdict, report.first_difference, report.where = "differ", row.name, row.where
    crossed = between(reference, name, [n for _, n in pairs])
    report.evidence = (
        f"every quantity of the forward agrees; read from the loss, the gradient of {name} is the "
        f"first that differs, by {row.error:.1e} of its rms, {crossed}"
    )


# ------------------------------------------------------- a factor that all share


def _name_factor(report, reference, pairs):
    """Name a loss that is a multiple of the right one, if it explains every gradient."""
    if not (report.first_difference or "").startswith("grad"):
        return
    largest = max((rms(exact) for _, exact in pairs), default=0.0)
    pairs = [(x, d) for x, d in pairs if rms(d) > 1e-4 * largest]  # others are nearly zero
    factors = [float(np.vdot(x, d) / np.vdot(d, d)) for x, d in pairs]
    if len(factors) < 2 or any(alike(x, d) < 1 - SAME**2 for x, d in pairs):
        return
    f = float(np.median(factors))
    if abs(f - 1) < SAME or any(abs(g / f - 1) > SAME for g in factors):
        return
    head = any(name in reference.values for name in OF_THE_LOSS)
    right = LABELLED if head else UNLABELLED
    report.evidence, report.diagnosis = None, [
        Diagnosis(
            "loss-scaled",
            f"Every gradient is {f:.6g} × the right one: the loss is{_why(reference, f, right)}.\n"
            f"yours: {f:.6g}·loss\nright: loss, {right}\n"
            f"fix: divide the loss by {f:.6g}",
            report.where,
            f"the same factor in {counted(len(factors), 'gradient')}, to {SAME:.0e}",
        )
    ]  # fmt: skip


def _why(reference, f, right):
    """What makes a loss this many times too large, after "the loss is"; a number otherwise."""
    labels = inputs_of(reference.model, reference.batch).get("labels", np.zeros(0))
    n = int((labels != IGNORED).sum())
    some, texts = counted(n, "label"), counted(len(labels), "text")
    for value, why in (
        (n, f" a sum over {some}, not their mean"),
        (n / max(labels.size, 1), f" divided by {labels.size:,} tokens, padding included"),
        (n / max(len(labels), 1), f" divided by {texts}, not by {some}"),
        (-1, " negated"),
    ):
        if abs(f - value) < SAME * abs(value):
            return why
    return f" {f:.6g} × {right}"
