"""Calls of a module on a batch, and the tensors in what it returns.

The arguments of `forward` are recognised by their names. A forward of (*args, **kwargs) is tried
with the names of transformers, then by position, then with one dict.
"""

import inspect
from collections.abc import Mapping

ROLES = {  # parts of a name that identify an argument of `forward`, in this order
    "token_type_ids": ("type", "seg"),
    "padding_mask": ("key_padding", "padding_mask", "pad_mask"),
    "attention_mask": ("mask",),
    "input_ids": ("id", "token", "input", "x"),
}


class NotCallableError(ValueError):
    """The module cannot run on the batch."""


def call_module(module, inputs):
    """Call a module on {name: tensor}  ->  what it returns. Raises NotCallableError."""
    given = arguments(module, inputs)
    errors = []
    for args, named in _attempts(given, inputs):
        try:
            return module(*args, **named)
        except Exception as error:
            errors.append(error)
    message = " ".join(str(errors[0]).split())
    axis = "key_padd" in message and "shape" in message
    hint = "; nn.TransformerEncoder takes (T,B,C) unless batch_first=True" if axis else ""
    raise NotCallableError(
        f"the module fails on a batch: {type(errors[0]).__name__}: {message}; "
        f"it was called with {', '.join(given or inputs) or 'nothing'}{hint}"
    ) from errors[0]


def _attempts(given, inputs):
    """[(positional arguments, arguments by name)] to try, the likely one first."""
    if given is None:  # *args and **kwargs alone
        arrays = list(inputs.values())
        yield (), inputs
        for n in range(len(arrays), 0, -1):
            yield arrays[:n], {}
        yield (inputs,), {}
        return
    mask = next((name for name in given if "mask" in name.lower()), None)
    yield (), given
    if mask is not None:  # as booleans or as floats
        yield (), given | {mask: given[mask].bool()}
        yield (), given | {mask: given[mask].float()}
    if len(given) == 1:
        yield (inputs,), {}


def arguments(module, inputs):
    """{argument of forward: tensor}; None for a forward of (*args, **kwargs).

    Raises NotCallableError for an unknown argument.
    """
    given, used, anything = {}, set(), False
    for name, parameter in _parameters(module):
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            anything = True
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
    if not given and anything:
        return None
    if "input_ids" not in used:
        raise NotCallableError("forward takes no argument for the token ids: call it input_ids")
    return given


def _parameters(module):
    """(name, parameter) of forward; a traced module keeps them in its schema."""
    forward = getattr(module, "forward", module)
    schema = getattr(forward, "schema", None)
    if schema is None:
        yield from inspect.signature(forward).parameters.items()
        return
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for argument in schema.arguments[1:]:
        default = argument.default_value if argument.has_default_value() else inspect._empty
        yield argument.name, inspect.Parameter(argument.name, kind, default=default)


def _role(name, used):
    lower = name.lower()
    if not used and lower not in ("mask", "attention_mask"):
        return "input_ids"
    for role, parts in ROLES.items():
        if any(part == lower or (len(part) > 1 and part in lower) for part in parts):
            return role
    return None


def tensors_of(out, name="output"):
    """(name, tensor) of every tensor in the output of a module, in any container or object."""
    import torch

    if isinstance(out, torch.Tensor):
        yield name, out
    elif isinstance(out, Mapping):
        for key, value in out.items():
            yield from tensors_of(value, str(key))
    elif isinstance(out, tuple | list):
        for i, value in enumerate(out):
            field = out._fields[i] if hasattr(out, "_fields") else f"{name}.{i}"
            yield from tensors_of(value, field)
    elif hasattr(out, "__dict__") and not isinstance(out, type | torch.nn.Module):
        yield from tensors_of(vars(out), name)
    elif hasattr(out, "__slots__"):
        slots = {slot: getattr(out, slot, None) for slot in out.__slots__}
        yield from tensors_of(slots, name)
