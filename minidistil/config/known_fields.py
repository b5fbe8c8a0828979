"""What the fields of a config.json mean in transformers, beside those that a family's class has.

common names     `hidden_size` in a DistilBERT is its `dim`: the class' `attribute_map`
fixed options    what a class of transformers can do besides, and this package does not; an
                 option that a family's classes never read may have any value
"""

import json

from minidistil.io.limits import short

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
                f"config: {name} {short(value)} and {own} {short(fields[own])} are "
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
                f"config: {name} must be {json.dumps(needed)}, not {short(value)}, which "
                f"computes something else"
            )


def class_names(fields):
    """`architectures`, a tuple; None without any. Raises ValueError for what is no list of them."""
    names = fields.get("architectures")
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"config: architectures must be a list of class names, not {short(names)}")
    return tuple(names)


def token_ids(fields, name):
    """One id or a list of them  ->  a tuple, None without any. Raises ValueError for another."""
    value = fields.get(name)
    found = value if isinstance(value, list | tuple) else [value]
    if value is None or not found:
        return None
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in found):
        raise ValueError(f"{name} must be an id or a list of ids, not {short(value)}")
    return tuple(found)


def first_id(fields, *names):
    """The first of these fields that is given, an id; None without any."""
    for name in names:
        if (found := token_ids(fields, name)) is not None:
            if len(found) > 1:
                raise ValueError(f"{name} must be one id, not {short(fields[name])}")
            return found[0]
    return None
