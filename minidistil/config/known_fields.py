"""Fields of a config.json that transformers reads and a family's dataclass does not have.

common names     `hidden_size` of a DistilBERT is its `dim`: transformers' `attribute_map`
fixed options    options with one implemented value; any other value changes the computation and is
                 refused. An option that transformers never reads for a family may have any value.
"""

import json
from collections.abc import Mapping
from typing import Any

from minidistil.io.limits import short

FIXED_EVERYWHERE = {"per_layer_config": {}, "pruned_heads": {}}  # fixed options of every family


def by_own_names(fields: Mapping[str, Any], common: Mapping[str, str]) -> dict[str, Any]:
    """Rename the common names among a config.json's fields to the family's own names.

    common: {transformers' common name: the family's own}. Raises ValueError where both names are
    given with different values.
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


def check_fixed(fields: Mapping[str, Any], fixed: Mapping[str, Any]) -> None:
    """Raise ValueError for an option whose value is neither null nor the one in `fixed`."""
    for name, needed in fixed.items():
        value = fields.get(name)
        if value is not None and value != needed:
            raise ValueError(
                f"config: {name} must be {json.dumps(needed)}, not {short(value)}, which "
                f"computes something else"
            )


def class_names(fields: Mapping[str, Any]) -> tuple[str, ...] | None:
    """The field `architectures` as a tuple, None where absent. Raises ValueError for any other
    value than a list of str."""
    names = fields.get("architectures")
    if names is None:
        return None
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"config: architectures must be a list of class names, not {short(names)}")
    return tuple(names)


def token_ids(fields: Mapping[str, Any], name: str) -> tuple[int, ...] | None:
    """A field with one id or a list of ids  ->  a tuple, None where absent or empty. Raises
    ValueError for any other value."""
    value = fields.get(name)
    found = value if isinstance(value, list | tuple) else [value]
    if value is None or not found:
        return None
    if not all(isinstance(i, int) and not isinstance(i, bool) for i in found):
        raise ValueError(f"{name} must be an id or a list of ids, not {short(value)}")
    return tuple(found)


def first_id(fields: Mapping[str, Any], *names: str) -> int | None:
    """The id in the first of the named fields that is set, None where none is. Raises ValueError
    for a field with several ids."""
    for name in names:
        if (found := token_ids(fields, name)) is not None:
            if len(found) > 1:
                raise ValueError(f"{name} must be one id, not {short(fields[name])}")
            return found[0]
    return None
