"""Data files with some bytes changed: every reader answers, or refuses in one line."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_reader_bounds import READERS

from minidistil.data.label_values import MULTI, PROBLEMS, label_names, label_numbers

ODD = [b"null", b"NaN", b"-1", b"[]", b"{}", b'"', b"\\", b"\n", b"\r", b"\t", b",", b";", b"#",
       b"1e999", b"\0", b"\xff", b"\xef\xbb\xbf", b"true", b"[[", b"1" * 5000, b"\\ud800", b"-100",
       b"1-2", b"_", b" ", b"x" * 700]  # fmt: skip
WHOLE = {
    "a.txt": "a film\nanother\n",
    "b.jsonl": '{"text": "a", "label": 1}\n{"text": "b", "label": [1, 0]}\n',
    "c.csv": 'text,label\n"a, b",1\nc,2\n',
    "d.tsv": "text\tlabel\na\t1\n",
    "e.jsonl": '{"question": "q", "choices": ["a", "b"], "label": 1}\n',
    "f.conll": "1\ta\tO\tO\n2\tb\tB-X\tO\n\n1\tc\tO\tO\n",
    "g.jsonl": '{"text": "a b. c", "summary": "x"}\n{"document": ["a"], "summary": ["x", "y"]}\n',
    "h.txt": "a b\nc d\n",
    "i.json": '{"data": [{"paragraphs": [{"context": "a film", "qas": [{"id": "1", "question": '
              '"q", "answers": [{"text": "film", "answer_start": 2}]}]}]}]}',
    "k.txt": "a 1 2\nb 3 4\n",
}  # fmt: skip


def whole(name):
    if name != "j.npz":
        return WHOLE[name].encode()
    file = io.BytesIO()
    images = np.random.default_rng(0).random((3, 4, 4))
    np.savez_compressed(file, images=images, labels=np.array(["a", "b", "c"]))
    return file.getvalue()


edits = st.lists(
    st.tuples(st.floats(0, 1), st.integers(0, 9), st.sampled_from(ODD) | st.binary(max_size=3)),
    min_size=1, max_size=4,
)  # fmt: skip


def refuses_in_a_line(function):
    """What it returns; None where it raises ValueError, of one line below 500 characters."""
    try:
        return function()
    except ValueError as error:
        assert len(str(error)) < 500 and "\n" not in str(error)
        return None


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [*WHOLE, "j.npz"])
@given(changed=edits)
@settings(max_examples=60)
def test_a_damaged_file(tmp_path_factory, name, changed):
    """Was: RecursionError, TypeError, OverflowError, TokenError and MemoryError as tracebacks, and
    errors of kilobytes.
    Right: what is there, or one line."""
    content = whole(name)
    for place, length, bytes_there in changed:
        start = int(place * len(content))
        content = content[:start] + bytes_there + content[start + length :]
    path = tmp_path_factory.getbasetemp() / name
    path.write_bytes(content)
    found = refuses_in_a_line(lambda: READERS[name](path))
    if found and name in ("b.jsonl", "c.csv", "d.tsv"):
        labels = [label for *_, label in found]
        for kind in PROBLEMS:
            names = refuses_in_a_line(lambda kind=kind: label_names(labels, kind)) or ("a", "b")
            numbers = refuses_in_a_line(lambda k=kind, n=names: label_numbers(labels, k, n))
            if numbers is not None:
                assert numbers.shape == ((len(labels), len(names)) if kind == MULTI else
                                         (len(labels),)) and np.isfinite(numbers).all()  # fmt: skip
