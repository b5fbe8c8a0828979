"""Checksums: crc32 detects damaged files, blake2b identifies inputs.

crc32 detects every changed bit and misses one in 2³² other changes. It processes 2 GB/s, blake2b
0.9: a checkpoint of 260 MB takes 0.13 s instead of 0.3. `digest` compares inputs that may have been
replaced on purpose; 32 bits are too few for that, so it uses blake2b.
"""

import zlib
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any

from minidistil.io import files

BLOCK = 1 << 20  # bytes of one read


def checksum(path: str | Path) -> int:
    """crc32 of a file."""
    with open(path, "rb") as file:
        found = 0
        while block := file.read(BLOCK):
            found = zlib.crc32(block, found)
    return found


def digest(named: Iterable[tuple[str, str | Path]]) -> str:
    """blake2b, in hex, of files and their names. named: (name, path) of each file."""
    found = blake2b(digest_size=16)
    for name, path in named:
        inner = blake2b(digest_size=16)
        with open(path, "rb") as file:
            while block := file.read(BLOCK):
                inner.update(block)
        found.update(f"{name}\n".encode("utf-8", "surrogateescape") + inner.digest())
    return found.hexdigest()


# ------------------------------------------------------- JSON objects with a field "checksum"


def sealed(value: dict[str, Any]) -> dict[str, Any]:
    """The dict with a field "checksum" added: crc32 of its JSON."""
    return value | {"checksum": zlib.crc32(files.to_json(value).encode())}


def write_sealed(path: str | Path, value: dict[str, Any]) -> None:
    """Write a JSON object with its checksum."""
    files.write_json(path, sealed(value))


def read_sealed(path: str | Path) -> dict[str, Any]:
    """Read an object of `write_sealed` without its checksum. Raises ValueError, naming the file,
    where the checksum does not match."""
    return unsealed(path, files.read_json(path))


def unsealed(path: str | Path, value: Any) -> dict[str, Any]:
    """Check and remove the checksum. Raises ValueError, naming the file, where it is missing or
    does not match."""
    if not isinstance(value, dict) or "checksum" not in value:
        raise ValueError(f"{path} is damaged: it is not a JSON object with a checksum")
    held = {name: x for name, x in value.items() if name != "checksum"}
    if value != sealed(held):
        raise ValueError(f"{path} is damaged: its checksum does not match its contents")
    return held
