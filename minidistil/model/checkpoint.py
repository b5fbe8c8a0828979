"""Hugging Face folders: config.json and safetensors, one file or several with an index.

All values become float32. Files are written under a temporary name and renamed, so that neither a
full disk nor a killed process leaves an incomplete file.

An int8 folder stores a matrix `x.weight` (R,C) as integers with `x.weight_scale` (R,) in float32:

    row r of the matrix = x.weight_scale[r] · x.weight[r]

Vectors stay float32. A row is a token of an embedding table or an output channel of a linear. The
word table is both, so that one scale serves the lookup and the LM head.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from minidistil.config import QUANTIZATION
from minidistil.io import files
from minidistil.io.arguments import one_of
from minidistil.io.files import MissingFileError, read_settings
from minidistil.io.limits import several
from minidistil.model.tensor_files import QuantizedTensor, StoredTensor, tensors_of
from minidistil.ops.kernels.number_formats import quantize

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# {name: dtype of the floating-point tensors}; int8's matrices are quantised, its vectors float32
STORAGE_DTYPES = {"float32": np.float32, "float16": np.float16, "int8": np.float32}
ROOM = 410  # characters of a list of problems in an error
SCALE = "_scale"  # suffix of a quantised matrix' name that gives the name of its scales


def stored_in(folder: str | Path) -> dict[str, StoredTensor]:
    """{name: StoredTensor} of a folder. No values are read.

    Raises MissingFileError or ValueError, one line.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists():  # takes precedence over an index, as in transformers
        return tensors_of(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _shards(folder)
    pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is read; convert it: "
            f"transformers' from_pretrained(…).save_pretrained(…) writes {WEIGHTS}"
        )
    raise MissingFileError(f"{folder} holds neither {WEIGHTS} nor {INDEX}")


def _shards(folder):
    files_of = read_settings(folder / INDEX).get("weight_map")  # {tensor: file}
    if not isinstance(files_of, dict) or not files_of:
        raise ValueError(f"{folder / INDEX} has no weight_map from names to files")
    tensors = {}
    for name in files_of.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{folder / INDEX} names {name!r}, which is not a file of the folder")
    for name in set(files_of.values()):
        tensors.update(tensors_of(folder / name))
    missing = sorted(set(files_of) - set(tensors))
    if missing:
        raise ValueError(f"{folder / INDEX} lists {missing[0]}, which no file holds")
    return tensors


def mismatch_error(folder: str | Path, problems: Sequence[str]) -> ValueError:
    """The ValueError of a folder whose tensors do not match its config, with as many of the
    problems as fit into its line."""
    shown = problems[:1]
    for problem in problems[1:]:
        if len("; ".join([*shown, problem])) > ROOM:
            break
        shown.append(problem)
    rest = len(problems) - len(shown)
    more = [f"… and {rest} more"] if rest else []
    return ValueError(f"{folder} does not fit its {CONFIG}: {'; '.join([*shown, *more])}")


def is_quantized(tensors: Mapping[str, StoredTensor]) -> bool:
    """Whether any of the tensors is stored as int8."""
    return any(x.kind == "I8" for x in tensors.values())


def with_scales(
    folder: str | Path, tensors: Mapping[str, StoredTensor]
) -> dict[str, StoredTensor | QuantizedTensor]:
    """The same tensors, with each int8 matrix and its scales joined into one QuantizedTensor.

    Raises ValueError where a matrix lacks a scale for each row.
    """
    joined, problems = dict(tensors), []
    for name, q in tensors.items():
        if q.kind != "I8":
            continue
        scale = joined.pop(name + SCALE, None)
        if scale is None:
            problems.append(f"{name} is I8, and {name + SCALE} is missing")
        elif len(q.shape) != 2 or scale.kind == "I8" or scale.shape != q.shape[:1]:
            problems.append(f"{name} {q.shape} needs a scale for each row, not {scale.shape}")
        else:
            joined[name] = QuantizedTensor(q, scale)
    if problems:
        raise ValueError(
            f"{folder} is not a whole quantised model: {several(problems, '; ')}; quantise it again"
        )
    return joined


# ---------------------------------------------------------------- writing


def write_folder(
    folder: str | Path, config: dict[str, Any], tensors: Mapping[str, np.ndarray],
    dtype: str = "float32",
) -> None:  # fmt: skip
    """Write config.json and model.safetensors. Raises OSError or ValueError.

    config: the fields of config.json. dtype: "float32", "float16", or "int8" for matrices with a
    scale for each row.
    """
    one_of("dtype", dtype, STORAGE_DTYPES)
    limit = np.finfo(STORAGE_DTYPES[dtype]).max
    stored = {}
    for name, array in tensors.items():
        if np.abs(array).max(initial=0) > limit:
            raise ValueError(f"{name} holds numbers above {limit}, {dtype}'s largest; use float32")
        if dtype == "int8" and array.ndim == 2:
            stored[name], stored[name + SCALE] = quantize(array)
            if np.isnan(stored[name + SCALE]).any():
                raise ValueError(f"{name} holds NaN or infinity, which int8 cannot; train it again")
        else:
            stored[name] = np.ascontiguousarray(array, STORAGE_DTYPES[dtype])
    if dtype == "int8":
        config = config | {"quantization_config": QUANTIZATION}
    together = {
        WEIGHTS: save(stored, metadata={"format": "pt"}),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    files.write_together(Path(folder), together)
