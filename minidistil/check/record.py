"""Recording of a PyTorch module: every array that it computes, and the line of code behind it.

A dispatch mode of PyTorch intercepts each operation, of a layer, a function or an einsum, so that
the module needs neither hooks nor names.
"""

import copy
import inspect
import os
import sys
from contextlib import contextmanager
from functools import cache
from typing import NamedTuple

import numpy as np

PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
ROLES = {  # parts of a name that identify an argument of `forward`, in this order
    "token_type_ids": ("type", "seg"),
    "padding_mask": ("key_padding", "padding_mask", "pad_mask"),
    "attention_mask": ("mask",),
    "input_ids": ("id", "token", "input", "x"),
}


class Recorded(NamedTuple):
    """One array that a module computed."""

    value: np.ndarray  # float64
    where: str  # file:line in function
    op: str
    single: bool  # whether it was less precise than float64


class NotCallableError(ValueError):
    """The module cannot run on the batch."""


def record(module, batch, widths, call=None, keep_graph=False):
    """Run a module  ->  its returned tensors [(name, tensor), …], [Recorded, …].

    widths: the sizes of the arrays to record. call(module, inputs): runs a module whose `forward`
    takes other arguments. keep_graph: for gradients.
    Raises NotCallableError.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    home = os.path.dirname(os.path.abspath(torch.__file__))
    recorded = []

    def keep(x, op, where):
        if isinstance(x, torch.Tensor) and x.is_floating_point() and x.numel() in widths:
            value = x.detach().to("cpu", torch.float64, copy=True).numpy()
            recorded.append(Recorded(value, where(), op, x.dtype != torch.float64))

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            if any(r.alias_info and not r.alias_info.is_write for r in func._schema.returns):
                return out  # a view of the same numbers
            for x in out if isinstance(out, tuple | list) else (out,):
                keep(x, str(func), lambda: _where((home, PACKAGE)))
            return out

    inputs = {name: torch.as_tensor(np.asarray(x)) for name, x in batch.items()}
    with torch.set_grad_enabled(keep_graph), Recorder():
        out = call(module, inputs) if call else _call(module, inputs)
    returned = list(_tensors(out))
    for name, tensor in returned:
        if tensor.nbytes < tensor.untyped_storage().nbytes():  # a slice is no operation
            keep(tensor, "slice", lambda name=name: f"what the module returns as {name}")
    return returned, recorded


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


def _call(module, inputs):
    """Call `forward` on the batch; its arguments are recognised by their names."""
    given, mask = arguments(module, inputs), None
    mask = next((name for name in given if "mask" in name.lower()), None)
    kinds = (
        [lambda m: m] if mask is None else [lambda m: m, lambda m: m.bool(), lambda m: m.float()]
    )
    errors = []
    for kind in kinds:  # the mask as integers, booleans or floats
        attempt = {n: kind(x) if n == mask else x for n, x in given.items()}
        try:
            return module(**attempt)
        except Exception as error:
            errors.append(error)
    message = " ".join(str(errors[0]).split())
    raise NotCallableError(
        f"the module fails on a batch: {type(errors[0]).__name__}: {message}; "
        f"it was called with {', '.join(given) or 'nothing'}"
    ) from errors[0]


def arguments(module, inputs):
    """{argument of forward: tensor}. Raises NotCallableError for an unknown argument."""
    forward = getattr(module, "forward", module)
    given, used = {}, set()
    for name, parameter in inspect.signature(forward).parameters.items():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        role = name if name in inputs else _role(name, used)
        needed = parameter.default is parameter.empty
        if role == "padding_mask":
            given[name] = inputs["attention_mask"] == 0
            used |= {role, "attention_mask"}
        elif role in inputs and role not in used:
            given[name] = inputs[role]
            used.add(role)
        elif needed:
            raise NotCallableError(
                f"forward's argument {name!r} is not recognised: call it input_ids, "
                f"attention_mask or token_type_ids, give it a default, or pass call= in Python"
            )
    if "input_ids" not in used:
        raise NotCallableError("forward takes no argument for the token ids: call it input_ids")
    return given


def _role(name, used):
    lower = name.lower()
    if not used and lower not in ("mask", "attention_mask"):
        return "input_ids"
    for role, parts in ROLES.items():
        if any(part == lower or (len(part) > 1 and part in lower) for part in parts):
            return role
    return None


def _tensors(out, name="output"):
    """(name, tensor) of every tensor in the output of a module."""
    import torch

    if isinstance(out, torch.Tensor):
        yield name, out
    elif isinstance(out, dict):
        for key, value in out.items():
            yield from _tensors(value, str(key))
    elif isinstance(out, tuple | list):
        for i, value in enumerate(out):
            field = out._fields[i] if hasattr(out, "_fields") else f"{name}.{i}"
            yield from _tensors(value, field)
    elif hasattr(out, "__dataclass_fields__"):
        yield from _tensors(vars(out), name)


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
