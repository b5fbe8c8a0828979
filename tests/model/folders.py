"""Saved models to read back, and ways to spoil them."""

import json
import struct

import numpy as np
from model_cases import CASES, SMALL, model_of
from safetensors.numpy import load_file, save_file


def folder_of(name, tmp_path, rename=None, dtype=None, extra=None):
    """A saved case, its model; rename: old name -> new; dtype: how tensors are stored."""
    model = model_of(CASES[name], SMALL)
    folder = tmp_path / name
    model.save_pretrained(folder)
    tensors = {(rename or str)(k): v for k, v in model.params.items()}
    if dtype:
        tensors = {k: v.astype(dtype) for k, v in tensors.items()}
    save_file(tensors | (extra or {}), folder / "model.safetensors")
    return folder, model


def edit_config(folder, **changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def rewrite(folder, change):
    """Apply `change` to the dict of tensors in the folder."""
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")


def write_by_hand(path, kind, tensors, tamper=lambda header: None):
    """A safetensors file, byte by byte: length of the header, header, numbers."""
    header, offset = {}, 0
    for key, x in tensors.items():
        header[key] = {
            "dtype": kind, "shape": x.shape, "data_offsets": [offset, offset + x.nbytes],
        }  # fmt: skip
        offset += x.nbytes
    tamper(header)
    text = json.dumps(header).encode()
    data = b"".join(x.tobytes() for x in tensors.values())
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def same(mine, other):
    assert list(mine.params) == list(other.params)
    for name, array in mine.params.items():
        np.testing.assert_array_equal(array, other.params[name], err_msg=name)
