"""Readers of data: each has a bound, which its error names with the value and a remedy.

The bounds are far beyond real data, so that most tests here lower them first.
"""

import bz2
import gzip
import io
import json
import lzma
import os
import socket
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest

from minidistil.check.trace_file import read_trace
from minidistil.cli import predict_items
from minidistil.data import documents, examples
from minidistil.data.file_rows import lines_of
from minidistil.data.image_processor import ImageProcessor
from minidistil.data.text_pairs import text_pairs
from minidistil.io import limits
from minidistil.io.npz_arrays import read_arrays
from minidistil.tasks.augmentation import read_vectors
from minidistil.tasks.extractive_summarization.data import documents_of
from minidistil.tasks.image_classification.data import pictures
from minidistil.tasks.multiple_choice.data import choices_of
from minidistil.tasks.question_answering.data import squad
from minidistil.tasks.sentence_embedding.search_index import _stored
from minidistil.tasks.token_classification.data import tagged_sentences

READERS = {  # each kind of data, read to its end
    "a.txt": lambda p: list(documents(p)),
    "b.jsonl": lambda p: list(examples(p)),
    "c.csv": lambda p: list(examples(p)),
    "d.tsv": lambda p: list(examples(p)),
    "e.jsonl": choices_of,
    "f.conll": lambda p: list(tagged_sentences(p)),
    "g.jsonl": lambda p: list(documents_of(p)),
    "h.txt": lambda p: list(text_pairs(p, target_file=p)),
    "i.json": squad,
    "j.npz": pictures,
    "k.txt": read_vectors,
    "l.safetensors": read_trace,
    "m.npz": read_trace,
}


def one_line(error):
    text = str(error.value)
    assert "\n" not in text and len(text) < 500
    return text


def socket_at(path):
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes have names here")
@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "pipe"),
        (lambda path: path.symlink_to("/dev/zero"), "device"),
        (lambda path: path.mkdir(), "folder"),
        (socket_at, "socket"),
    ],
)
def test_what_is_no_file(tmp_path, monkeypatch, name, make, kind):
    """Was: a pipe was waited for without end, a device read without end, a folder a traceback.
    Right: what it is instead of a file, at once; a folder of data files is read as before."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    path = tmp_path / name
    make(path.relative_to(tmp_path))
    with pytest.raises(ValueError, match=r"\S") as error:
        READERS[name](path)
    folders = "holds no file of a known kind" if kind == "folder" else "is a folder"
    assert f"is not a regular file but a {kind}" in one_line(error) or folders in one_line(error)


BINARIES = {
    "packed by gzip": gzip.compress(b"a film\n"),
    "packed by bzip2": bz2.compress(b"a film\n"),
    "packed by xz": lzma.compress(b"a film\n"),
    "in UTF-16: convert it to UTF-8": "a film".encode("utf-16"),
    "binary, or text in UTF-16": "a film that is long".encode("utf-16-le"),
    "a PDF": b"%PDF-1.7\n",
    "a Parquet table": b"PAR1\x15\x04",
    "a database": b"SQLite format 3\x00",
    "an image": b"\x89PNG\r\n",
    "a zip archive": b"PK\x03\x04\x14\x00",
}


@pytest.mark.parametrize("what", BINARIES)
@pytest.mark.parametrize("name", ["a.txt", "b.jsonl", "c.csv", "f.conll"])
def test_binary_files_taken_for_text(tmp_path, what, name):
    """Was: "byte 0x8b is not UTF-8; convert the file to UTF-8"; UTF-16 without a mark was text.
    Right: what the file is, and what to do with it."""
    path = tmp_path / name
    path.write_bytes(BINARIES[what])
    with pytest.raises(ValueError, match=r"line 1: the file is no text but") as error:
        READERS[name](path)
    assert what in one_line(error)


def test_text_with_a_zero_is_text(tmp_path):
    """Was: as it should be, and stays.
    Right: a stray NUL is a character."""
    (tmp_path / "a.txt").write_bytes(b"a\0film\n")
    assert list(documents(tmp_path / "a.txt")) == ["a\0film"]


def test_a_packed_file_grows_so_far(tmp_path, monkeypatch):
    """Was: 100 kB of gzip were read as 100 MB, and so on to any size.
    Right: refused beyond 200 times its size and 64 MiB; what is before is read."""
    path = tmp_path / "a.txt.gz"
    path.write_bytes(gzip.compress(b"word\n" * 400_000))
    assert sum(1 for _ in documents(path)) == 400_000  # small enough whatever its growth
    monkeypatch.setattr(limits, "UNPACKED", 2**16)
    with pytest.raises(ValueError, match=r"line \d+: .* bytes unpack to more than") as error:
        list(documents(path))
    assert "unpack the file and look at it" in one_line(error)
    path.write_bytes(gzip.compress(np.random.default_rng(0).bytes(40_000).hex().encode()))
    assert len(list(documents(path))) == 1


@pytest.mark.parametrize(
    "name", ["a.txt", "b.jsonl", "c.csv", "d.tsv", "f.conll", "h.txt", "k.txt"]
)
def test_a_line_has_so_many_bytes(tmp_path, monkeypatch, name):
    """Was: a line of any length was read into memory.
    Right: refused by the bound, with the line's number; nothing beyond it is kept."""
    monkeypatch.setattr(limits, "LINE", 1000)
    path = tmp_path / name
    path.write_bytes(b"x" * 5000 + b"\nlast line\n")
    with pytest.raises(ValueError, match="line 1: a line has more than 1,000 bytes; break it"):
        READERS[name](path)


def test_the_line_behind_a_long_one_is_read(tmp_path, monkeypatch):
    """Was: as it should be: a bad line costs itself alone.
    Right: so it stays, whatever the length, at both sides of the bound."""
    monkeypatch.setattr(limits, "LINE", 10)
    path = tmp_path / "a.txt"
    for size, good in ((9, True), (10, False), (11, False), (22, False), (4000, False)):
        path.write_bytes(b"x" * size + b"\nnext\n")
        (_, first), (place, second) = lines_of(path)
        assert isinstance(first, str) == good and second == "next" and place.endswith("line 2")


def test_a_row_with_an_open_quote(tmp_path, monkeypatch):
    """Was: an open quote took the rest of a file of any size into one field.
    Right: a row is bounded as a line is, and the quote named."""
    monkeypatch.setattr(limits, "LINE", 1000)
    path = tmp_path / "a.csv"
    path.write_text('text,label\nfine,1\n"open,2\n' + "more,3\n" * 500)
    with pytest.raises(ValueError, match=r"line 3: not csv: a row has more than 1,000 .* quote"):
        list(examples(path))


DEEP = 100_000


NESTED = {
    "lists": "[" * DEEP + "]" * DEEP,
    "objects": '{"a":' * DEEP + "1" + "}" * DEEP,
    "open": "[" * DEEP,
    "behind text": '{"text": "[[[", "x": ' + "[" * (DEEP - 1) + "]" * (DEEP - 1) + "}",
}


@pytest.mark.parametrize("text", NESTED.values(), ids=NESTED)
def test_json_nests_so_deep(tmp_path, text):
    """Was: RecursionError, a traceback.
    Right: refused by the bound before it is parsed, in a line of data and in a whole file."""
    for name in ("b.jsonl", "e.jsonl", "f.jsonl", "i.json"):
        path = tmp_path / name
        path.write_text(text)
        read = READERS[name] if name in READERS else READERS["f.conll"]
        with pytest.raises(ValueError, match="nested 100,000 deep, of which at most 100") as error:
            read(path)
        one_line(error)
    with pytest.raises(ValueError, match="nested 100,000 deep"):
        limits.json_of(text)


def test_brackets_in_strings_are_no_depth():
    """Was: as it should be, and stays.
    Right: only lists and objects nest."""
    value = {"text": "[{" * 500 + '\\"' + '"' * 7 + "\\" * 5, "more": [[1], "]["]}
    assert limits.json_of(json.dumps(value)) == value
    nested = json.loads("[" * 100 + "]" * 100)
    assert limits.json_of(json.dumps(nested)) == nested


def test_a_json_document_has_so_many_bytes(tmp_path, monkeypatch):
    """Was: read into memory whatever its size.
    Right: its size is asked for first."""
    monkeypatch.setattr(limits, "DOCUMENT", 100)
    path = tmp_path / "i.json"
    path.write_text('{"data": "' + "x" * 100 + '"}')
    with pytest.raises(ValueError, match="has 112 bytes; a JSON document has at most 100"):
        squad(path)
    monkeypatch.setattr(limits, "SETTINGS", 100)
    (tmp_path / "preprocessor_config.json").write_text("[" * 200)
    with pytest.raises(ValueError, match="has 200 bytes; a settings file has at most 100"):
        ImageProcessor.read(tmp_path, None)


# ------------------------------------------------------- arrays


def npz(path, array=None, header=None, data=b"", **zipped):
    """An .npz file whose images have this header, whatever their bytes are."""
    whole = io.BytesIO()
    np.save(whole, np.zeros((2, 3, 3)) if array is None else array)
    content = whole.getvalue()
    if header is not None:
        text = header.encode().ljust(117) + b"\n"
        content = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data
    with zipfile.ZipFile(path, "w", **zipped) as archive:
        archive.writestr("images.npy", content)
    return path


HUGE = "{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }"
LYING = "{'descr': '<f8', 'fortran_order': False, 'shape': (20000, 30, 30), }"


@pytest.mark.parametrize(
    ("header", "says"),
    [
        (HUGE, "takes 8,000,000,000,000 bytes, of which at most 8,589,934,592 are read"),
        (LYING, "takes 144,000,000 bytes, but the file holds 144"),
        (HUGE.replace("1000000, 1000000", "-3, -3, 2"), "takes 144 bytes, but the file holds 144"),
        (HUGE.replace("<f8", "|O"), "holds Python objects"),
        ("{'descr': '<f8', 'shape': (3,)}", "cannot be read as .npz"),
        ("no header", "cannot be read as .npz"),
    ],
)
def test_an_array_is_what_its_header_says(tmp_path, header, says):
    """Was: a header of 128 bytes asked for 8 TB, and a MemoryError was the answer.
    Right: shape and bytes are compared, with each other and with the bound, before reading."""
    path = npz(tmp_path / "a.npz", header=header, data=bytes(144))
    with pytest.raises(ValueError, match=says) as error:
        pictures(path)
    one_line(error)


def test_an_archive_grows_so_far(tmp_path, monkeypatch):
    """Was: some kB of zeros in a zip were unpacked to any size.
    Right: the archive's own sizes are compared first; a name that is not asked for is not read."""
    images = np.zeros((50, 100, 100), np.uint8)
    path = npz(tmp_path / "a.npz", images, compression=zipfile.ZIP_DEFLATED)
    assert read_arrays(path, ("images", "labels"))["images"].shape == images.shape
    monkeypatch.setattr(limits, "UNPACKED", 1000)
    with pytest.raises(ValueError, match="bytes unpack to more than"):
        pictures(path)
    monkeypatch.setattr(limits, "ARRAYS", 1000)
    path = npz(tmp_path / "b.npz", images)
    with pytest.raises(ValueError, match=r"arrays take 500,128 bytes, of which at most 1,000 are"):
        pictures(path)
    assert read_arrays(path, ("labels",)) == {}


@pytest.mark.parametrize("damage", ["cut", "flipped", "locked", "empty"])
def test_a_damaged_archive_is_one_line(tmp_path, damage):
    """Was: a locked entry (RuntimeError) and a damaged header (TokenError) were tracebacks.
    Right: one line with the file's name."""
    path = npz(tmp_path / "a.npz", np.arange(900.0).reshape(1, 30, 30),
               compression=zipfile.ZIP_DEFLATED)  # fmt: skip
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[:-40]
    elif damage == "flipped":
        data[200:260] = bytes(60)
    elif damage == "locked":
        data[6] |= 1
        data[data.index(b"PK\x01\x02") + 8] |= 1
    else:
        data = b""
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"cannot be read as \.npz") as error:
        pictures(path)
    one_line(error)


def test_an_index_of_search_is_read_as_data_is(tmp_path):
    """Was: a header that asks for 8 TB was a MemoryError, a traceback.
    Right: one line, as of images."""
    path = tmp_path / "index"
    with zipfile.ZipFile(path, "w") as archive:
        for name, header in (("key", HUGE.replace("1000000, 1000000", "")), ("vectors", HUGE)):
            npz(tmp_path / "a.npz", header=header, data=bytes(8))
            with zipfile.ZipFile(tmp_path / "a.npz") as made:
                archive.writestr(f"{name}.npy", made.read("images.npy"))
    with pytest.raises(ValueError, match=r"is a damaged index \(.*takes 8,000,000,000,000"):
        _stored(path, "key")


# ------------------------------------------------------- standard input


class Pieces:
    """Standard input that gives pieces as they come."""

    def __init__(self, *pieces):
        self.pieces = list(pieces)

    def read1(self, most):
        return self.pieces.pop(0) if self.pieces else b""


def test_a_long_line_of_standard_input(monkeypatch):
    """Was: kept in memory until it ended, or for ever.
    Right: refused in its place; lines before and after have their answers."""
    monkeypatch.setattr(limits, "LINE", 1000)
    kept, piece = [], b"x" * 600
    pieces = Pieces(b"first\n", *[piece] * 500, b"x\nlast\n")
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=pieces, isatty=lambda: False))
    args = SimpleNamespace(texts=[], data=None, text_column=None, text_pair_column=None)
    for chunk in predict_items.chunks_of(args, "text-classification"):
        kept += chunk
    (_, first), (place, long), (_, last) = kept
    assert (first, place, last) == ("first", "stdin line 2", "last")
    assert isinstance(long, ValueError) and "more than 1,000 bytes" in str(long)


def test_bounds_are_generous():
    """Was: as it should be, and stays.
    Right: text8 is a line of 100 MB, text packs to a tenth at most, SQuAD nests 9 deep."""
    assert limits.LINE >= 100_000_000 and limits.GROWTH >= 100 and limits.DEPTH >= 64
    assert limits.DOCUMENT >= 2**29 and limits.ARRAYS >= 2**32 and limits.UNPACKED >= 2**26
