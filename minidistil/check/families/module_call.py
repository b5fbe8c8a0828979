"""Calls of modules of other families than encoders: their arguments, recognised by name."""

import inspect

from minidistil.check.calling import NotCallableError, call_module
from minidistil.check.record import leaves

ROLES = (  # (role, names or parts of a name), the first that fits
    ("decoder_attention_mask", ("decoder_attention_mask", "tgt_mask", "target_mask", "decoder_mask",
                                "tgt_padding", "target_padding")),
    ("decoder_input_ids", ("decoder_input", "decoder_ids", "tgt", "target_ids", "target_tokens")),
    ("padding_mask", ("key_padding", "padding_mask", "pad_mask")),
    ("attention_mask", ("mask",)),
    ("token_type_ids", ("token_type", "type_ids", "segment")),
    ("labels", ("label",)),
    ("targets", ("target",)),
    ("pixel_values", ("pixel", "image", "img", "picture")),
    ("input_ids", ("input_ids", "ids", "idx", "token", "input", "src", "source", "text", "word")),
)  # fmt: skip


def role_of(name):
    """The role of an argument with this name, or None."""
    lower = name.lower()
    return next((role for role, parts in ROLES if any(part in lower for part in parts)), None)


def roles_taken(module):
    """{argument: role} of a module's forward; the first argument of no role is the main input."""
    found = {}
    for name, parameter in inspect.signature(getattr(module, "forward", module)).parameters.items():
        if parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            role = role_of(name)
            found[name] = None if role in found.values() else role
    return found


def call_with_roles(module, inputs):
    """Run a module on the inputs that its arguments name. Raises NotCallableError."""
    taken, given = roles_taken(module), {}
    if not taken:  # *args and **kwargs alone
        return call_module(module, inputs)
    first = next(iter(inputs))  # input_ids or pixel_values
    if first not in taken.values():
        unknown = [name for name, role in taken.items() if role is None]
        if not unknown:
            raise NotCallableError(f"forward takes no argument for {first}: give one that name")
        taken[unknown[0]] = first
    parameters = inspect.signature(getattr(module, "forward", module)).parameters
    for name, role in taken.items():
        if role == "padding_mask" and "attention_mask" in inputs:
            given[name] = inputs["attention_mask"] == 0
        elif role in inputs:
            given[name] = _as_the_module(inputs[role], module)
        elif parameters[name].default is inspect.Parameter.empty:
            raise NotCallableError(
                f"forward's argument {name!r} is not recognised: call it one of "
                f"{', '.join(inputs)}, give it a default, or pass call= in Python"
            )
    return _with_masks(module, given, taken)


def _as_the_module(x, module):
    """Floats in the precision of the module's weights."""
    kind = next((p.dtype for p in leaves(module).values()), x.dtype)
    return x.to(kind) if x.is_floating_point() else x


def _with_masks(module, given, taken):
    """Run with the masks as integers, as booleans or as floats, the first that works."""
    masks = [n for n in given if taken[n] and taken[n].endswith("attention_mask")]
    errors = []
    for kind in (lambda m: m, lambda m: m.bool(), lambda m: m.float())[: 3 if masks else 1]:
        try:
            return module(**{n: kind(x) if n in masks else x for n, x in given.items()})
        except Exception as error:
            errors.append(error)
    message = " ".join(str(errors[0]).split())
    raise NotCallableError(
        f"the module fails on a batch: {type(errors[0]).__name__}: {message}; it was called with "
        f"{', '.join(given)}"
    ) from errors[0]
