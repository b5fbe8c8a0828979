"""Hugging Face folders: config.json and safetensors, one file or several with an index.

Every number becomes float32. Files are written under a temporary name and renamed, so a full disk
or a killed process leaves no half-written file.

Stored as int8, a matrix `x.weight` (R,C) is whole numbers, and beside it lies `x.weight_scale` (R,)
in float32: row r is x.weight_scale[r] · x.weight[r]. Vectors stay float32. Rows are tokens of an
embedding table and output channels of a linear, and the word table is both: one scale does for
looking a word up and for predicting it.
"""

import json
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save

from minidistil import files
from minidistil.config import QUANTIZATION
from minidistil.files import MissingFileError
from minidistil.limits import several
from minidistil.ops._formats import dequantize, quantize

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
STORED = {"float32": np.float32, "float16": np.float16, "int8": np.float32}  # int8: its vectors
SCALE = "_scale"  # what follows a quantised matrix' name in that of its scales


def read_tensors(folder):
    """{name: float32 array, or int8 where it is stored so} of a folder.

    Raises MissingFileError or ValueError, one clear line.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists():  # before an index, whose shards may be older; as transformers
        return _read_file(folder / WEIGHTS)
    if (folder / INDEX).exists():
        return _read_shards(folder)
    pickles = sorted(p.name for pattern in PICKLES for p in folder.glob(pattern))
    if pickles:
        raise ValueError(
            f"{folder / pickles[0]} is a pickle, which can run code when it is read; convert it: "
            f"transformers' from_pretrained(…).save_pretrained(…) writes {WEIGHTS}"
        )
    raise MissingFileError(f"{folder} holds neither {WEIGHTS} nor {INDEX}")


def _read_shards(folder):
    try:
        places = json.loads((folder / INDEX).read_text(encoding="utf-8"))["weight_map"]
        shards = sorted(set(places.values()))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ValueError(f"{folder / INDEX} has no weight_map from names to files") from None
    tensors = {}
    for name in shards:
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{folder / INDEX} names {name!r}, which is not a file of the folder")
        tensors.update(_read_file(folder / name))
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise ValueError(f"{folder / INDEX} lists {missing[0]}, which no file holds")
    return tensors


def _read_file(path):
    try:
        entries = safetensors.deserialize(path.read_bytes())
    except FileNotFoundError:
        raise MissingFileError(f"{path} is missing, though {INDEX} names it") from None
    except safetensors.SafetensorError as error:
        raise ValueError(
            f"{path} is not a whole safetensors file ({error}); fetch or save it again"
        ) from None
    return {name: _to_array(f"{path}: {name}", entry) for name, entry in entries}


def _to_array(name, entry):
    data, kind = entry["data"], entry["dtype"]
    if kind == "BF16":  # the upper half of a float32; NumPy has no such type
        bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        array = bits.view(np.float32)
    elif kind in ("F32", "F16", "F64"):
        array = np.frombuffer(data, f"<f{int(kind[1:]) // 8}").astype(np.float32)
    elif kind in ("I64", "I32"):
        array = np.frombuffer(data, f"<i{int(kind[1:]) // 8}").astype(np.float32)
    elif kind == "I8":
        array = np.frombuffer(data, np.int8)
    else:
        raise ValueError(f"{name} is {kind}; F32, F16, BF16 and F64 can be read, I8 with scales")
    return array.reshape(entry["shape"])


def is_quantized(tensors):
    """Whether any matrix among what `read_tensors` found is stored as int8."""
    return any(array.dtype == np.int8 for array in tensors.values())


def dequantized(folder, tensors):
    """The same in float32, without the scales. Raises ValueError where a scale cannot be one."""
    wide, problems = dict(tensors), []
    for name, q in tensors.items():
        if q.dtype != np.int8:
            continue
        scale = wide.pop(name + SCALE, None)
        if scale is None:
            problems.append(f"{name} is I8, and {name + SCALE} is missing")
        elif q.ndim != 2 or scale.dtype == np.int8 or scale.shape != q.shape[:1]:
            problems.append(f"{name} {q.shape} needs a scale for each row, not {scale.shape}")
        elif not (np.isfinite(scale) & (scale > 0)).all():
            row = int(np.flatnonzero(~(np.isfinite(scale) & (scale > 0)))[0])
            problems.append(f"{name + SCALE} holds {scale[row]} at {row}, not a number above 0")
        else:
            wide[name] = dequantize(q, scale)
    if problems:
        raise ValueError(
            f"{folder} is not a whole quantised model: {several(problems, '; ')}; quantise it again"
        )
    return wide


# ---------------------------------------------------------------- writing


def write_folder(folder, config, tensors, dtype="float32"):
    """config: dict for config.json; tensors: {name: array}. Raises OSError or ValueError.

    dtype: "float32", "float16", or "int8" for matrices with a scale for each row.
    """
    if dtype not in STORED:
        raise ValueError(f"dtype must be one of {', '.join(STORED)}, not {dtype!r}")
    limit = np.finfo(STORED[dtype]).max
    stored = {}
    for name, array in tensors.items():
        if np.abs(array).max(initial=0) > limit:
            raise ValueError(f"{name} holds numbers above {limit}, {dtype}'s largest; use float32")
        if dtype == "int8" and array.ndim == 2:
            stored[name], stored[name + SCALE] = quantize(array)
            if np.isnan(stored[name + SCALE]).any():
                raise ValueError(f"{name} holds NaN or infinity, which int8 cannot; train it again")
        else:
            stored[name] = np.ascontiguousarray(array, STORED[dtype])
    if dtype == "int8":
        config = config | {"quantization_config": QUANTIZATION}
    together = {
        WEIGHTS: save(stored, metadata={"format": "pt"}),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    files.write_together(Path(folder), together)
