"""`compare`: the first difference between a PyTorch module and the model of a folder, explained.

The story, a file each: `reference_batch` makes batches, `module_run` records the module on them,
`align` finds the reference's quantities among the recorded arrays by value, `compare_values`
compares them and `returned` what is returned, `diagnose` searches the catalogue of mistakes and
`related` the generic ones, `parameter_gradients` compares the backward, `backward` locates
a wrong one, `findings` reports.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minidistil.check.align import Reference
from minidistil.check.backward import locate_backward
from minidistil.check.calling import NotCallableError
from minidistil.check.compare_values import compare_values, conclude
from minidistil.check.families.family import program_of
from minidistil.check.findings import Report
from minidistil.check.module_run import directions, module_gradients, run_module, trainable
from minidistil.check.parameter_gradients import compare_gradients
from minidistil.check.record import evaluating, unwrapped
from minidistil.check.reference_batch import as_stored, load
from minidistil.check.returned import together

STEPS = ("the reference", "the module", "the first difference", "gradients", "another batch")


def compare(
    module: Any,
    folder: str | Path,
    batch: Mapping[str, np.ndarray] | None = None,
    *,
    task: str | None = None,
    texts: Sequence[str | tuple[str, str]] | None = None,
    teacher: str | Path | None = None,
    seed: int = 0,
    call: Callable | None = None,
    tell: Callable[[str], None] | None = None,
) -> Report:
    """Compare a torch module with the model of a folder  ->  Report.

    module: holds the folder's weights, under any names; forward takes input_ids and optionally
    attention_mask and token_type_ids. batch: a dict of integer arrays (B,T), or of pixel_values; by
    default `texts` (of an encoder-decoder, pairs of source and target; a text alone is its own
    target), or two random ones. teacher: the folder of a model whose layers may have been copied.
    call(module, inputs): runs a module whose forward takes other arguments.
    tell(step): called with each of STEPS as it begins.
    Raises ValueError for a folder without a model; the Report says why a comparison is impossible.
    """
    tell = tell or (lambda step: None)
    model = load(folder, task)
    family, module = program_of(model), unwrapped(module)
    batches = [batch] if batch else family.examples(model, folder, texts, seed, module)
    call, model = call or family.call, as_stored(model, module)
    layers = _layers(load(teacher, task)) if teacher else None
    reports = []
    for batch in batches:
        tell(STEPS[-1] if reports else STEPS[0])
        reference = Reference(model, {n: batch[n] for n in family.reads if n in batch})
        steps = (lambda step: None) if reports else tell
        try:
            with evaluating(module):
                report = _compare(module, reference, layers, call, steps)
        except NotCallableError as error:
            if reports and type(module).__module__.startswith("torch.jit"):
                reports[0].unmatched.append(f"{family.second}: a traced module has one size")
                return reports[0]
            report = Report.cannot(str(error))
        if report.verdict != "agree":
            report.only_on = family.second if reports else None
            return report
        reports.append(report)
    if family.holes:
        reports[0].unmatched += _unread(model, reference)
    return reports[0]


def _unread(model, reference):
    """What no batch contains, for the line "not compared"."""
    T, longest = reference.frame.T, model.config.architecture.longest
    return [f"positions from {T} on"] if longest > T else []


def _layers(model):
    """The parameters of each layer by role, float64, as `Program` takes them."""
    named = program_of(model).by_role(model, model.params)
    layers = [{} for _ in range(model.config.architecture.L)]
    for name, x in named.items():
        if name.startswith("layer."):
            _, i, role = name.split(".", 2)
            layers[int(i)][role] = x.astype(np.float64)
    return layers


def _compare(module, reference, layers, call, tell):
    tell(STEPS[1])
    ran = run_module(module, reference, call)
    tell(STEPS[2])
    comparison = compare_values(reference, ran.recording, layers)
    report = comparison.report
    if report.reason:
        return report
    if ran.random is not None:
        report.verdict, report.diagnosis, report.where = "differ", [ran.random], ran.random.where
        report.first_difference = report.first_difference or comparison.alignment.names[-1]
        return report
    tell(STEPS[3])
    ends = {*reference.ends, *reference.heads} - {"loss"}  # its gradient is the logits'
    held = {o.label: o.quantity for o in comparison.outputs if o.quantity in ends}
    found = directions(reference, ran, held, together(comparison.outputs))
    cotangents = {name: d for _, _, name, d in found}
    mine = module_gradients(ran, found)
    bad = compare_gradients(comparison, reference, mine, cotangents)
    locate_backward(comparison, reference, ran, found, bad)
    return conclude(comparison, reference, trainable(ran))
