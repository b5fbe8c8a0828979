"""The runs of a PyTorch module on a batch, as a Recording, and the gradients of its weights.

The module runs unchanged, and as a copy in float64, where a different formula is larger than
rounding. Where it cannot be copied, or works in float32 alone, the run in float32 is compared.
"""

from contextlib import suppress
from typing import NamedTuple

import numpy as np

from minidistil.check.align import DOUBLE, SINGLE
from minidistil.check.autograd_graph import graph_leaves
from minidistil.check.calling import NotCallableError
from minidistil.check.dropout_check import random_from
from minidistil.check.findings import Diagnosis
from minidistil.check.record import RecordedRun, doubled, leaves, record
from minidistil.check.recording import Recording, Returned, place_of


class ModuleRun(NamedTuple):
    """The runs of a module on the batch, and the tensors behind their arrays."""

    recording: Recording
    run: RecordedRun  # with its graph
    weights: dict  # {name: tensor} of the module or copy that ran
    random: Diagnosis | None  # of two runs that differ


def run_module(module, reference, call=None) -> ModuleRun:
    """Run a module twice in its precision, then with gradients: in float64 if possible."""
    widths = reference.widths()
    plain = record(module, reference.batch, widths, call)
    again = record(module, reference.batch, widths, call)
    if random := random_from(plain.recorded, again.recorded):
        return _module_run(plain, leaves(module), SINGLE, plain, random)
    with doubled(module) as twin, suppress(NotCallableError):
        if twin is not None:
            run = record(twin, reference.batch, widths, call, keep_graph=True)
            if not any(s.single for s in run.recorded):
                return _module_run(run, _leaves_used(twin, module, run), DOUBLE, plain, None)
    run = record(module, reference.batch, widths, call, keep_graph=True)
    return _module_run(run, leaves(module), SINGLE, plain, None)


def _leaves_used(twin, module, run):
    """{name: tensor} of a copy's weights, or in their place the module's own that the copy's run
    used: a function that is assigned to `forward` holds them, and is not copied."""
    used = {id(leaf) for leaf in graph_leaves([tensor for _, tensor in run.returned])}
    return leaves(twin) | {n: t for n, t in leaves(module).items() if id(t) in used}


def _module_run(run, weights, precision, plain, random):
    returned, as_is = (
        [Returned(name, _array(tensor), place_of(name)) for name, tensor in some.returned]
        for some in (run, plain)
    )
    arrays = {name: _array(t) for name, t in weights.items()}
    recording = Recording(
        run.recorded, returned, arrays, precision, plain.recorded, as_is, plain.births
    )
    return ModuleRun(recording, run, weights, random)


def _array(tensor):
    """A tensor as float64, or as integers."""
    tensor = tensor.detach().cpu()
    return (tensor.double() if tensor.is_floating_point() else tensor).numpy()


def directions(reference, ran, names, together=()):
    """[(returned tensor, cotangent in its layout, quantity, the quantity's cotangent)].

    names: {name of a returned tensor: the quantity that it holds}. together: quantities that
    answer only together; one of them that is detached takes no gradient to any weight.
    """
    rng, found = np.random.default_rng(1), []
    some = any(tensor.requires_grad for label, tensor in ran.run.returned if label in names)
    for label, tensor in ran.run.returned:
        name = names.get(label)
        if some and name in together and not tensor.requires_grad:
            tensor = tensor.detach().requires_grad_()  # a leaf
        if name is None or not tensor.requires_grad or any(name == n for _, _, n, _ in found):
            continue
        exact = reference.values[name]
        d = rng.standard_normal(exact.shape)
        if exact.ndim == 3:
            d = d * reference.frame.mask_of(exact.shape)[:, :, None]
        mine = reference.frame.laid_out(_array(tensor), exact, d)
        if mine is not None:
            found.append((tensor, mine, name, d))
    return found


def module_gradients(ran, found):
    """{name: array} of the weights that require a gradient, for the cotangents of `directions`."""
    import torch

    named = {n: t for n, t in ran.weights.items() if t.requires_grad}
    if not found or not named:
        return {}
    grads = torch.autograd.grad(
        [tensor for tensor, *_ in found], list(named.values()), allow_unused=True,
        grad_outputs=[torch.as_tensor(d).to(tensor.dtype) for tensor, d, *_ in found],
        retain_graph=True,
    )  # fmt: skip
    return {
        n: np.zeros(tuple(t.shape)) if g is None else _array(g)
        for (n, t), g in zip(named.items(), grads, strict=True)
    }


def trainable(ran):
    """The names of the weights that require a gradient."""
    return [n for n, t in ran.weights.items() if t.requires_grad]
