"""Recording of a PyTorch module: every array that it computes, and the line of code behind it.

A dispatch mode of PyTorch intercepts each operation, of a layer, a function or an einsum, so that
the module needs neither hooks nor names.
"""

import copy
import os
import sys
from contextlib import ExitStack, contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np

from minidistil.check.calling import call_module, tensors_of
from minidistil.check.not_finite import birth
from minidistil.check.recording import Recorded, place_of

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


class RecordedRun(NamedTuple):
    """One run of a module on a batch."""

    returned: list  # (name, tensor)
    recorded: list  # Recorded
    tensors: list  # the tensor of each Recorded, with its graph where one is kept
    births: list  # of NaN and infinity


def record(module, batch, widths, call=None, keep_graph=False):
    """Run a module  ->  RecordedRun.

    widths: the sizes of the arrays to record. call(module, inputs): runs a module whose `forward`
    takes other arguments. keep_graph: for gradients.
    Raises NotCallableError.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    home = os.path.dirname(os.path.abspath(torch.__file__))
    recorded, tensors, births = [], [], []

    def keep(x, op, where):
        if x.numel() in widths:
            value = x.detach().to("cpu", torch.float64, copy=True).numpy()
            recorded.append(Recorded(value, where, op, x.dtype != torch.float64))
            tensors.append(x if keep_graph else None)

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
                return out  # a view of the same numbers
            for x in out if isinstance(out, tuple | list) else (out,):
                if isinstance(x, torch.Tensor) and x.is_floating_point():
                    where, name = _where((home, PACKAGE)), func._schema.name.split("::")[-1]
                    inputs = (*args, *(kwargs or {}).values())
                    births.extend(birth(name, inputs, x, len(recorded), where))
                    keep(x, name, where)
            return out

    inputs = {name: torch.as_tensor(np.asarray(x)) for name, x in batch.items()}
    with torch.set_grad_enabled(keep_graph), unfused(), Recorder():
        out = call(module, inputs) if call else call_module(module, inputs)
    returned = list(tensors_of(out))
    for name, tensor in returned:
        part = tensor.nbytes < tensor.untyped_storage().nbytes()  # a slice is no operation
        if part and tensor.is_floating_point():
            keep(tensor, "slice", place_of(name))
    return RecordedRun(returned, recorded, tensors, births)


@contextmanager
def unfused():
    """Without nn.TransformerEncoder's fast path and without compiled code: one layer in one kernel
    shows none of its quantities."""
    import torch

    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            if "torch._dynamo" in sys.modules:  # compiled code exists, and runs uncompiled
                stack.enter_context(torch.compiler.set_stance("force_eager"))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


def unwrapped(module):
    """The module within torch.compile, DataParallel or DistributedDataParallel."""
    import torch

    parallel = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
    while True:
        if isinstance(module, parallel):
            module = module.module
        elif "_orig_mod" in getattr(module, "_modules", {}):
            module = module._orig_mod
        else:
            return module


def _where(skipped):
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith(skipped) and not file.startswith("<"):
            return f"{short(file)}:{frame.f_lineno} in {frame.f_code.co_name}"
        frame = frame.f_back
    return "unknown"


@cache
def short(file):
    """A path relative to the working directory or to site-packages."""
    if "site-packages" + os.sep in file:
        return file.split("site-packages" + os.sep)[-1]
    near = os.path.relpath(file)
    return file if near.startswith("..") else near


def leaves(module):
    """{name: tensor} of all weights: parameters and buffers, or tensors in plain attributes."""
    import torch

    found = {}
    if isinstance(module, torch.nn.Module):
        found |= dict(module.named_parameters())
        found |= {n: b for n, b in module.named_buffers() if b.is_floating_point()}
    if not found:
        _walk(module, "", found, set())
    return found


def _walk(thing, name, found, visited):
    import torch

    if id(thing) in visited:
        return
    visited.add(id(thing))
    if isinstance(thing, torch.Tensor):
        if thing.is_floating_point():
            found[name] = thing
        return
    items = ()
    if isinstance(thing, dict):
        items = thing.items()
    elif isinstance(thing, list | tuple):
        items = enumerate(thing)
    elif hasattr(thing, "__dict__") and not isinstance(thing, type):
        items = vars(thing).items()
    for key, value in items:
        if isinstance(value, dict | list | tuple | torch.Tensor) or hasattr(value, "__dict__"):
            _walk(value, f"{name}.{key}".lstrip("."), found, visited)


@contextmanager
def evaluating(module):
    """The module in evaluation mode; afterwards in its former mode."""
    training = getattr(module, "training", False)
    if training:
        module.eval()
    try:
        yield
    finally:
        if training:
            module.train()


@contextmanager
def doubled(module):
    """A copy of the module in float64, with float64 as the default; None if it cannot be copied."""
    import torch

    before = torch.get_default_dtype()
    try:
        twin = copy.deepcopy(module)
        if isinstance(twin, torch.nn.Module):
            twin.double()
        for tensor in leaves(twin).values():
            tensor.data = tensor.data.double()
    except Exception:
        twin = None
    torch.set_default_dtype(torch.float64)
    try:
        yield twin
    finally:
        torch.set_default_dtype(before)
