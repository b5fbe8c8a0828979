"""What the fields of a config.json mean in transformers, beside those that a family's class has.

common names     `hidden_size` in a DistilBERT is its `dim`: the class' `attribute_map`
fixed options    what a class of transformers can do besides, and this package does not; an
                 option that a family's classes never read may have any value
"""

import json
import reprlib

EVERYWHERE = {"per_layer_config": {}, "pruned_heads": {}}  # options of every class


def by_own_names(fields, common):
    """The fields of a config.json under the family's own names.

    common: {transformers' common name: the family's own}. Raises ValueError where both names are
    given and their values differ.
    """
    fields = dict(fields)
    for name, own in common.items():
        value = fields.pop(name, None)
        if value is None:
            continue
        if fields.get(own) not in (None, value):
            raise ValueError(
                f"config: {name} {reprlib.repr(value)} and {own} {reprlib.repr(fields[own])} are "
                f"two names of one number; leave one of them out"
            )
        fields[own] = value
    return fields


def check_fixed(fields, fixed):
    """Raises ValueError where an option has another value than the one in fixed.

    An option that is absent or null has that value.
    """
    for name, needed in fixed.items():
        value = fields.get(name)
        if value is not None and value != needed:
            raise ValueError(
                f"config: {name} must be {json.dumps(needed)}, not {reprlib.repr(value)}, which "
                f"computes something else"
            )


def class_names(fields):
    """`architectures`, a tuple; None without any. Raises ValueError for what is no list of them."""
    names = fields.get("architectures")
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(
            f"config: architectures must be a list of class names, not {reprlib.repr(names)}"
        )
    return tuple(names)
