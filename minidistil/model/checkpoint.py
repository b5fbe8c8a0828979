"""Hugging Face folders: config.json and safetensors, one file or several with an index.

Every number becomes float32. Files are written under a temporary name and renamed, so a full disk
or a killed process leaves no half-written file.
"""

import json
from pathlib import Path

import numpy as np
import safetensors
from safetensors.numpy import save

from minidistil import files
from minidistil.files import MissingFileError

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
STORED = {"float32": np.float32, "float16": np.float16}


def read_tensors(folder):
    """{name: float32 array} of a folder. Raises MissingFileError or ValueError, one clear line."""
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
    return {name: _to_float32(f"{path}: {name}", entry) for name, entry in entries}


def _to_float32(name, entry):
    data, kind = entry["data"], entry["dtype"]
    if kind == "BF16":  # the upper half of a float32; NumPy has no such type
        bits = np.frombuffer(data, "<u2").astype(np.uint32) << 16
        array = bits.view(np.float32)
    elif kind in ("F32", "F16", "F64"):
        array = np.frombuffer(data, f"<f{int(kind[1:]) // 8}").astype(np.float32)
    elif kind in ("I64", "I32"):
        array = np.frombuffer(data, f"<i{int(kind[1:]) // 8}").astype(np.float32)
    else:
        raise ValueError(f"{name} is {kind}; F32, F16, BF16 and F64 can be read")
    return array.reshape(entry["shape"])


# ---------------------------------------------------------------- writing


def write_folder(folder, config, tensors, dtype="float32"):
    """config: dict for config.json; tensors: {name: array}. Raises OSError or ValueError."""
    if dtype not in STORED:
        raise ValueError(f"dtype must be one of {', '.join(STORED)}, not {dtype!r}")
    limit = np.finfo(STORED[dtype]).max
    stored = {}
    for name, array in tensors.items():
        if np.abs(array).max(initial=0) > limit:
            raise ValueError(f"{name} holds numbers above {limit}, {dtype}'s largest; use float32")
        stored[name] = np.ascontiguousarray(array, STORED[dtype])
    together = {
        WEIGHTS: save(stored, metadata={"format": "pt"}),
        CONFIG: (json.dumps(config, indent=2) + "\n").encode(),
    }
    files.write_together(Path(folder), together)
