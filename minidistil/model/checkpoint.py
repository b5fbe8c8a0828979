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
from safetensors.numpy import save

from minidistil.config import QUANTIZATION
from minidistil.io import files
from minidistil.io.arguments import one_of
from minidistil.io.files import MissingFileError, read_settings
from minidistil.io.limits import several
from minidistil.model.tensor_files import Scaled, tensors_of
from minidistil.ops.kernels.number_formats import quantize

WEIGHTS, INDEX, CONFIG = "model.safetensors", "model.safetensors.index.json", "config.json"
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
STORED = {"float32": np.float32, "float16": np.float16, "int8": np.float32}  # int8: its vectors
ROOM = 410  # letters of a list of problems
SCALE = "_scale"  # what follows a quantised matrix' name in that of its scales


def stored_in(folder):
    """{name: Stored} of a folder, whose numbers are not read yet.

    Raises MissingFileError or ValueError, one clear line.
    """
    folder = Path(folder)
    if (folder / WEIGHTS).exists():  # before an index, whose shards may be older; as transformers
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
    places = read_settings(folder / INDEX).get("weight_map")
    if not isinstance(places, dict) or not places:
        raise ValueError(f"{folder / INDEX} has no weight_map from names to files")
    tensors = {}
    for name in places.values():
        if not isinstance(name, str) or Path(name).name != name:
            raise ValueError(f"{folder / INDEX} names {name!r}, which is not a file of the folder")
    for name in set(places.values()):
        tensors.update(tensors_of(folder / name))
    missing = sorted(set(places) - set(tensors))
    if missing:
        raise ValueError(f"{folder / INDEX} lists {missing[0]}, which no file holds")
    return tensors


def misfit(folder, problems):
    """The ValueError of a folder whose tensors are not its config's, with as many of the problems
    as a line has room for."""
    shown = problems[:1]
    for problem in problems[1:]:
        if len("; ".join([*shown, problem])) > ROOM:
            break
        shown.append(problem)
    rest = len(problems) - len(shown)
    more = [f"… and {rest} more"] if rest else []
    return ValueError(f"{folder} does not fit its {CONFIG}: {'; '.join([*shown, *more])}")


def is_quantized(tensors):
    """Whether any matrix among what `stored_in` found is stored as int8."""
    return any(x.kind == "I8" for x in tensors.values())


def with_scales(folder, tensors):
    """The same with each int8 matrix and its scales as one Scaled.

    Raises ValueError where a matrix has no scale for each row.
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
            joined[name] = Scaled(q, scale)
    if problems:
        raise ValueError(
            f"{folder} is not a whole quantised model: {several(problems, '; ')}; quantise it again"
        )
    return joined


# ---------------------------------------------------------------- writing


def write_folder(folder, config, tensors, dtype="float32"):
    """config: dict for config.json; tensors: {name: array}. Raises OSError or ValueError.

    dtype: "float32", "float16", or "int8" for matrices with a scale for each row.
    """
    one_of("dtype", dtype, STORED)
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
