"""`compare_trace`: the values that an implementation in any language has written, compared with the
model of a folder.

`trace_file` reads the file, `written_values` orders its values, `compare_values` compares them as
it does a module's, `pair_gradients` finds out which gradient is which.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from minidistil.check.align import Reference
from minidistil.check.compare_values import compare_values, conclude
from minidistil.check.families.family import program_of
from minidistil.check.findings import Report, Row
from minidistil.check.reference_batch import load
from minidistil.check.returned import named, row_of
from minidistil.check.trace_file import LOSS, read_trace
from minidistil.check.trace_values import values_and_gradients
from minidistil.check.written_gradients import compare_written_gradients
from minidistil.check.written_values import (
    head_ends,
    named_as,
    not_finite,
    recording_of,
    unknown,
)
from minidistil.io import limits
from minidistil.io.counts import counted
from minidistil.testing import FLOOR


def compare_trace(
    path: str | Path,
    folder: str | Path,
    batch: Mapping[str, np.ndarray] | None = None,
    *,
    task: str | None = None,
    texts: Sequence[str | tuple[str, str]] | None = None,
    inputs: str | Path | None = None,
    seed: int = 0,
) -> Report:
    """Compare the values in a .safetensors or .npz file with the model of a folder  ->  Report.

    path: holds values on one batch, under any names, the task's outputs among them; gradients are
    those of the loss of `minidistil trace`. inputs: the file of `minidistil trace --inputs-only`
    with the batch; by default it is `batch`, or `texts` (of an encoder-decoder, pairs of source and
    target), or the one in the file, or the random one of `trace` with this seed.
    Raises ValueError for a folder without a model and for a file that holds nothing to compare.
    """
    model = load(folder, task)
    chosen = bool(batch or texts)
    batch = batch or program_of(model).example(model, folder, texts, seed)
    written, given = read_trace(path), batch
    if inputs is not None:
        given = read_trace(inputs).inputs
    elif not chosen and {"input_ids", "attention_mask"} <= set(written.inputs):
        given = written.inputs
    batch = {name: given[name] for name in batch if name in given}
    _check_same(written.inputs, batch, path)
    return _compare(written, Reference(model, batch))


def _check_same(written, batch, path):
    """Raise ValueError where the file holds another batch."""
    for name, x in written.items():
        if name in batch and not np.array_equal(x.reshape(-1), np.reshape(batch[name], -1)):
            raise ValueError(
                f"{path} was computed on another batch: its {name} {x.shape} are not those of the "
                f"reference {np.shape(batch[name])}; give the inputs of both sides as --inputs FILE"
            )


def _compare(written, reference):
    recording = recording_of(written.values, reference)
    if not written.gradients:
        recording = recording._replace(said=("gradients: the file holds none",))
    comparison = compare_values(reference, recording)
    report = comparison.report
    if report.reason:
        return report
    _unknown(report, reference, {
        name: written.values[name] for name in unknown(written.values, comparison, reference)
    })  # fmt: skip
    _name_output(comparison, reference, recording)
    _not_finite(comparison, not_finite(written.values, reference))
    truth = tuple(
        values_and_gradients(reference.model, reference.batch, dtype)
        for dtype in ("float64", "float32")
    )
    names = compare_written_gradients(comparison, reference, written.gradients, truth)
    if written.loss is not None:
        _loss(report, written.loss, *(float(values["loss"][0]) for values in truth))
    held = {o.quantity for o in comparison.outputs}
    held |= {"start_logits", "end_logits"} if "spans" in held else set()
    missing = [name for name in head_ends(reference) if name not in held]
    if report.verdict == "agree" and missing:
        report.verdict, report.reason = "cannot-compare", _no_output(comparison, missing, reference)
    return conclude(comparison, reference, names)


def _unknown(report, reference, arrays):
    """Report arrays that hold no quantity, though what is computed from it agrees: a difference
    where the name is that of a quantity that no other array holds."""
    meant = {
        name: (quantity, error) for name, (quantity, error) in named_as(arrays, reference).items()
        if f"quantity {quantity}" in report.unmatched
    }  # fmt: skip
    report.unmatched += [f"unknown {name}" for name in arrays if name not in meant]
    for name, (quantity, error) in meant.items():
        rounding = float(reference.rounding[quantity])
        report.rows.append(Row(quantity, "forward", error, rounding, False, name))
        report.unmatched.remove(f"quantity {quantity}")
        if report.verdict == "agree":
            report.verdict, report.first_difference, report.where = "differ", quantity, name
            report.evidence = (
                f"the outputs agree, so that the array {name} alone differs, by {error:.1e} of its "
                f"rms: it is written before or after {quantity} is complete, or is overwritten"
            )


def _name_output(comparison, reference, recording):
    """Explain an output where no other value that is written differs."""
    report = comparison.report
    differing = {row.name for row in report.rows if row.kind == "forward" and not row.agrees}
    if report.verdict != "differ" or report.diagnosis or differing - set(reference.ends):
        return
    for output in comparison.outputs:
        if output.quantity is not None and not output.agrees:
            row = row_of(output, reference)
            report.first_difference, report.where = row.name, row.where
            report.diagnosis = named(output, reference, recording.precision)
            report.evidence = (
                f"{output.label} differs by {output.error:.1e} of its rms, and no value before it "
                f"that differs is written; write more of them to locate the difference"
            )
            return


def _not_finite(comparison, names):
    """Report arrays that are not finite at real tokens."""
    report = comparison.report
    if not names:
        return
    where = f"NaN or infinity at real tokens in {limits.few(names)}"
    if report.verdict == "agree":
        report.verdict, report.first_difference, report.where = "differ", names[0], names[0]
        report.evidence = where
    elif not report.diagnosis:
        report.evidence = f"{where}; {report.evidence}"


def _loss(report, mine, exact, single):
    """Add the row of the loss, and the difference if all else agrees."""
    size = max(abs(exact), 1e-30)
    error, rounding = abs(mine - exact) / size, abs(single - exact) / size
    agrees = bool(error <= 10 * FLOOR + 3 * rounding)
    report.rows.append(Row("loss", "loss", error, rounding, agrees, LOSS))
    if report.verdict == "agree" and not agrees:
        report.verdict, report.first_difference, report.where = "differ", "loss", LOSS
        report.evidence = (
            f"everything else agrees; the loss is {mine:.6g} and should be {exact:.6g}: see "
            f"minidistil trace --help for its definition"
        )


def _no_output(comparison, missing, reference):
    """Why values that agree are not enough."""
    sizes = ", ".join(f"{name} {reference.values[name].shape}" for name in missing)
    others = [f"{o.label} {o.shape}" for o in comparison.outputs if o.quantity is None]
    instead = f", but {', '.join(others[:3])}" if others else ""
    agree = counted(len(comparison.report.rows), "written value", "agrees")
    return (
        f"{agree}, and the file holds no {sizes}{instead}; write the outputs, or compare the body "
        f"with --task feature-extraction"
    )
