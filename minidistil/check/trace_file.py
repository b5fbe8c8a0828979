"""Files of values that another implementation has computed: .safetensors or .npz.

The arrays have any names. Inputs of the batch are recognised by their names, gradients by a part
of their name ("grad", or "d" before the name of another array); all other arrays are values.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from safetensors import safe_open

from minidistil.io import limits
from minidistil.io.files import MissingFileError
from minidistil.io.npz_arrays import names_of, read_arrays
from minidistil.model.tensor_files import tensors_of

HALF = ("F16", "BF16", "float16")
INPUTS = {  # {array of the batch: names that it may have in a file}
    "input_ids": ("input_ids", "ids", "token_ids", "tokens"),
    "attention_mask": ("attention_mask", "mask"),
    "token_type_ids": ("token_type_ids", "type_ids", "segment_ids", "token_types"),
    "pixel_values": ("pixel_values",), "decoder_input_ids": ("decoder_input_ids",),
    "decoder_attention_mask": ("decoder_attention_mask",),
    "labels": ("labels",), "start_positions": ("start_positions",),
    "end_positions": ("end_positions",),
}  # fmt: skip
LOSS, PIXELS = "loss", "pixel_values"


class WrittenArrays(NamedTuple):
    """The arrays of a file by what they are; every array has the name that it was written under."""

    inputs: Mapping[str, np.ndarray]  # under the names of `INPUTS`; integers int64
    values: Mapping[str, np.ndarray]
    gradients: Mapping[str, np.ndarray]  # with respect to values and to parameters
    loss: float | None


def read_trace(path: str | Path) -> WrittenArrays:
    """The arrays of a .safetensors or .npz file.

    Raises ValueError, one line: another kind of file, a damaged one, half precision, no array.
    """
    path = Path(path)
    if not path.exists():
        raise MissingFileError(f"{path} is missing")
    limits.check_file(path)
    read = {".safetensors": _safetensors, ".npz": _npz}.get(path.suffix.lower())
    if read is None:
        raise ValueError(f"values are read from .safetensors and .npz files, not from {path.name}")
    arrays = read(path)
    if not arrays:
        raise ValueError(f"{path} holds no array; write the values that the program computes")
    return sorted_out(arrays)


def _safetensors(path):
    stored = tensors_of(path)
    _check_kinds(path, {name: tensor.kind for name, tensor in stored.items()})
    with safe_open(path, "numpy") as file:
        return {name: file.get_tensor(name) for name in stored}


def _npz(path):
    arrays = read_arrays(path, names_of(path))
    _check_kinds(path, {name: x.dtype.name for name, x in arrays.items()})
    odd = [name for name, x in arrays.items() if x.dtype.kind not in "fiub"]
    if odd:
        raise ValueError(f"{path}: {limits.few(odd)} must hold real numbers; write float32")
    return arrays


def _check_kinds(path, kinds):
    """Raise ValueError where an array has half precision."""
    half = [name for name, kind in kinds.items() if kind in HALF]
    if half:
        raise ValueError(
            f"{path}: {limits.few(half)} {'is' if len(half) == 1 else 'are'} in half precision, "
            f"whose rounding is larger than many mistakes; compute and write float32"
        )


def sorted_out(arrays: Mapping[str, np.ndarray]) -> WrittenArrays:
    """{name: array} as a program has written them  ->  WrittenArrays."""
    inputs, values, gradients, loss = {}, {}, {}, None
    for name, x in arrays.items():
        role = input_role(name)
        if role == PIXELS:
            inputs[role] = x
        elif role is not None and _whole(x):
            inputs[role] = x.astype(np.int64)
        elif last(name) == LOSS and x.size == 1 and not is_gradient(name, arrays):
            loss = float(x.reshape(()))
        elif x.dtype.kind == "f":
            (gradients if is_gradient(name, arrays) else values)[name] = x
    return WrittenArrays(inputs, values, gradients, loss)


def last(name: str) -> str:
    """The last part of a name: "a/b.c" -> "c"."""
    return re.split(r"[./:]", name)[-1].lower()


def input_role(name: str) -> str | None:
    """Which array of the batch has this name; None for none."""
    return next((role for role, names in INPUTS.items() if last(name) in names), None)


def is_gradient(name: str, others: Mapping) -> bool:
    """Whether a name says "gradient": "grad.q", "q.grad", "dq" or "d_q" beside an array "q"."""
    if "grad" in name.lower() or "∂" in name:
        return True
    at = len(name) - len(last(name))
    found = re.fullmatch(r"d_?(\w+)", name[at:])
    return found is not None and name[:at] + found[1] in others


def _whole(x):
    """Whether an array holds whole numbers, of any type."""
    return x.dtype.kind in "iub" or bool((np.isfinite(x) & (x == np.trunc(x))).all())
