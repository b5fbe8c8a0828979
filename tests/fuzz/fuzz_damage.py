"""Ways to spoil a file or a command line, each a small value that can be printed and repeated.

A damage is (what, place, value): what is spoilt, where (a fraction of the file, of its lines or of
its values), and by which of the odd values. `spoil(path, damage)` does it.
"""

import gzip
import json
import os
import shutil
import struct
from typing import NamedTuple

import numpy as np

MUCH = 200_000
LARGE = 2**20  # bytes of a file
ODD = [
    None, True, False, -1, 0, 1, 2, 3, 5.5, 1e308, 1e-45, 2**31, 2**63, 10**30, float("nan"),
    float("inf"), "", " ", "512", "-1", "no", "null", "nan", "é\u0301\u200b", "\x00", "\ud800",
    "[MASK]", "../..", "x" * 3000, [], [5], [None], [[1, 0, 1]], {}, {"0": "x"}, {"a": {"b": []}},
    "[" * MUCH,
]  # fmt: skip
ARGUMENTS = ["", "0", "-1", "1", "2", "1e30", "nan", "inf", "-0.5", "99999999999999999999", "x",
             "é", ",", "1,1", "0,9", "\x00", "mlm", "text.txt", "nowhere", ".",
             "/dev/zero"]  # fmt: skip
BYTES = [b"", b"\x00", b"\xff\xfe", b"\x80", b"{", b"}", b'"', b"\n", b"\r", b"\t", b",", b";",
         b"\xf0\x9f\x99\x82", b"\xed\xa0\x80", b"0", b"-DOCSTART- -X- O O\n", b"a\tb\tc\td\n",
         b"9" * 400, b"#", b"=", b"\x1f\x8b", b"PK\x03\x04"]  # fmt: skip


class Damage(NamedTuple):
    what: str
    place: float = 0.0  # 0 ≤ place < 1
    value: int = 0


def spoil(path, damage):
    """Change the file at path, unless damage has made it large. A kind that does not fit the file
    changes its bytes."""
    if path.stat().st_size > LARGE:
        return
    kind = KINDS[damage.what]
    if kind in (_json, _header) and not kind(path, damage):
        kind = _bytes
    if kind not in (_json, _header):
        kind(path, damage)


def odd(damage, values=ODD):
    return values[damage.value % len(values)]


def _at(damage, size):
    return min(int(damage.place * size), max(size - 1, 0))


# ------------------------------------------------------- whole files


def _gone(path, damage):
    path.unlink()


def _folder(path, damage):
    path.unlink()
    path.mkdir()


def _pipe(path, damage):
    path.unlink()
    os.mkfifo(path)


def _device(path, damage):
    path.unlink()
    path.symlink_to(("/dev/zero", "/dev/null", "/nowhere")[damage.value % 3])


def _cut(path, damage):
    content = path.read_bytes()
    path.write_bytes(content[: _at(damage, len(content))])


def _often(path, damage):
    path.write_bytes(path.read_bytes() * (2 + damage.value % 9))


def _packed(path, damage):
    packed = gzip.compress(path.read_bytes())
    path.write_bytes(packed[: len(packed) - damage.value % 3])


def _bytes(path, damage):
    content, value = bytearray(path.read_bytes()), odd(damage, BYTES)
    at = _at(damage, len(content))
    content[at : at + damage.value % 2] = value
    path.write_bytes(content)


# ------------------------------------------------------- what is inside


def _lines(path, damage):
    """A line is doubled, dropped, moved to the front, or its fields are turned round."""
    lines = path.read_bytes().split(b"\n")
    at = _at(damage, len(lines))
    line = lines[at]
    fields = line.split(b"\t") if b"\t" in line else line.split(b",")
    change = [lambda: [line] * 3, lambda: [], lambda: [b"\t".join(fields[::-1])],
              lambda: [b"\t".join(fields[:-1])], lambda: [line + b"\t" + line],
              lambda: [line * 3000], lambda: [b"", b" ", line]]  # fmt: skip
    lines[at : at + 1] = change[damage.value % len(change)]()
    path.write_bytes(b"\n".join(lines))


def _leaves(value, here=()):
    """The places of all values inside a JSON value, containers included."""
    yield here
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(inner, (*here, key))


def _changed(value, damage):
    """The JSON value with one place of it odd, missing, doubled or renamed."""
    places = list(_leaves(value))
    where = places[_at(damage, len(places))]
    if not where:
        return odd(damage)
    inner = value
    for key in where[:-1]:
        inner = inner[key]
    if damage.value % 7 == 0:
        inner.pop(where[-1])
    elif damage.value % 7 == 1 and isinstance(inner, dict):
        inner[f"{where[-1]}_"] = inner.pop(where[-1])
    else:
        inner[where[-1]] = odd(damage)
    return value


def _json(path, damage):
    """A JSON file, or one line of a file of JSON lines. Says whether it was one."""
    text = path.read_bytes()
    lines = text.split(b"\n") if path.suffix == ".jsonl" else [text]
    at = damage.value % len(lines)
    try:
        lines[at] = json.dumps(_changed(json.loads(lines[at]), damage)).encode()
    except (ValueError, RecursionError):  # damaged before
        return False
    path.write_bytes(b"\n".join(lines))
    return True


def _header(path, damage):
    """The header of a safetensors file, or its numbers. Says whether it was one."""
    if path.suffix != ".safetensors":
        return False
    content = path.read_bytes()
    try:
        (size,) = struct.unpack("<Q", content[:8])
        header, numbers = json.loads(content[8 : 8 + size]), content[8 + size :]
    except (struct.error, ValueError, RecursionError):  # damaged before
        return False
    if damage.value % 3 or len(numbers) % 4:
        written = json.dumps(_changed(header, damage)).encode()
        path.write_bytes(struct.pack("<Q", len(written)) + written + numbers)
        return True
    x = np.frombuffer(numbers, np.float32).copy()
    with np.errstate(over="ignore"):
        x[_at(damage, len(x)) :: 7] = (np.nan, np.inf, 3e38, 1e-45)[damage.value % 4]
    path.write_bytes(content[: 8 + size] + x.tobytes())
    return True


KINDS = {
    "gone": _gone, "folder": _folder, "pipe": _pipe, "device": _device, "cut": _cut,
    "often": _often, "packed": _packed, "bytes": _bytes, "lines": _lines, "json": _json,
    "header": _header,
}  # fmt: skip


# ------------------------------------------------------- the command line


def spoil_line(argv, damage, options):
    """argv with one word odd, missing or doubled, or with one more option; options: known ones."""
    argv, at = list(argv), 1 + _at(damage, len(argv) - 1)
    if damage.what == "word":
        argv[at] = odd(damage, ARGUMENTS)
    elif damage.what == "less":
        del argv[at]
    elif damage.what == "twice":
        argv[at:at] = argv[at : at + 1 + damage.value % 2]
    else:
        option = options[_at(damage, len(options))]
        argv += [option, odd(damage, ARGUMENTS)] if damage.value % 3 else [option]
    return argv


LINE_KINDS = ("word", "less", "twice", "more")


def copied(world, names, place):
    """The named files and folders of the world, in the folder place  ->  all files there."""
    for name in names:
        source = world / name
        if source.is_dir():
            shutil.copytree(source, place / name, dirs_exist_ok=True)
        else:
            shutil.copy(source, place / name)
    return sorted(p for p in place.rglob("*") if p.is_file())
