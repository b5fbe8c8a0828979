"""`predict --lines` survives every line: what has no answer is named by its number on stderr, and
all the others are answered, in their order."""

import io
import json
import re

import pytest
from cli.test_lines import FIELDS, TASKS, folders

from minidistil.cli import main
from minidistil.cli.predict_lines import answered

__all__ = ["folders"]
DEEP = 100_000
TEXTS = [  # as lines; what begins with { is JSON
    b"\xff\xfe not UTF-8", b"\xed\xa0\x80 a surrogate in UTF-8", b"\x00", b"the film \x00 was",
    b"[" * DEEP, b"]" * 50, b"9" * 5000, b"-" * 5000, b"\xef\xbb\xbfthe film", b"\x1b[31m film",
    "\u2028 the film\u2028".encode(), "\x85".encode(), b"\xf0\x9f\x98\x80" * 50, b"{", b"{}", b"{]",
    b"the film " * 400, b"x" * 20_000, b"\rthe film\r was\r", b"[MASK]" * 9, b"[MASK]" * 3,
    b"{" * DEEP, b'{"text": ' * DEEP, b'{"text": ' + b"[" * DEEP + b"]" * DEEP + b"}",
]  # fmt: skip
VALUES = [  # of a field, as JSON
    b'"\\ud800"', b'"\\udfff film"', b'"\\u0000"', b'""', b'" "', b"null", b"true", b"[]", b"{}",
    b"1" + b"0" * 4000, b"1" + b"0" * 5000, b"1e400", b"NaN", b"-Infinity", b'["the", "film"]',
    b'["\\ud800", "film"]', b'[""]', b"[1]", b"[null, []]", b'[["film"]]', b'{"text": "film"}',
    b"[" * DEEP + b"]" * DEEP, b'"' + b"film " * 200 + b'"', b"[" + b'"film",' * 300 + b'"x"]',
]  # fmt: skip
WITH = ("text", "text_pair", "question", "context", "choices", "document", "source")


def fields_of(task):
    """A good object of the task's."""
    return FIELDS.get(task, lambda x: {"text": x})("the [MASK] film was great")


def bad_lines(task):
    yield from TEXTS
    good = fields_of(task)
    for name in WITH:
        if name in good or name in ("text", "text_pair"):
            for value in VALUES:
                rest = {k: v for k, v in good.items() if k != name}
                inner = json.dumps(rest)[1:-1].encode()
                yield (
                    b"{"
                    + b", ".join(x for x in (inner, b'"%s": %s' % (name.encode(), value)) if x)
                    + b"}"
                )


def run(capsys, monkeypatch, folder, task, data):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))
    more = ["--max-new-tokens", "2"] if "generation" in task or task == "translation" else []
    capsys.readouterr()
    code = main(["predict", "--model", folder, "--task", task, "--lines", "--backend", "numpy",
                 *more])  # fmt: skip
    out, err = capsys.readouterr()
    return code, [json.loads(line) for line in out.splitlines()], err


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", TASKS)
def test_every_line(task, folders, capsys, monkeypatch):
    """Was: a lone surrogate or a nesting of 100,000 ended the stream, and the rest was lost.
    Right: each line is answered or named, and the good one behind each bad one is answered.
    """
    good = json.dumps(fields_of(task)).encode()
    given = list(bad_lines(task))
    data = b"\n".join(x for line in given for x in (line, good)) + b"\n"
    code, answers, err = run(capsys, monkeypatch, folders[task], task, data)
    named = [int(n) for n in re.findall(r"^error: stdin line (\d+): ", err, re.M)]
    blank = [n for n, line in enumerate(given) if not line.decode("utf-8", "replace").strip()]
    assert code == 2 and len(set(named)) == len(named)
    assert not [n for n in named if n % 2 == 0], "the good ones are answered"
    assert len(answers) + len(named) == 2 * len(given) - len(blank)
    assert all(len(line) < 500 for line in err.splitlines())
    assert "Traceback" not in err


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_a_character(encoding, folders, capsys, monkeypatch):
    """Was: an answer with a letter that stdout's encoding lacks ended the stream.
    Right: that answer is written in ASCII, which JSON can hold anything in.
    """
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr("sys.stdout", out)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO("the 電 film\nfilm\n".encode())))
    argv = ["predict", "--model", folders["token-classification"], "--task",
            "token-classification", "--lines", "--backend", "numpy"]  # fmt: skip
    assert main(argv) == 0
    out.flush()
    assert len([json.loads(x) for x in out.buffer.getvalue().decode(encoding).splitlines()]) == 2


def test_an_error_of_any_kind(capsys):
    """Was: an item on which a predictor failed with anything but a ValueError ended the stream.
    Right: it is named with the kind of its error, and its neighbours in the batch are answered.
    """

    class Predict:
        called = None

    def ask(items):
        if "bad" in items:
            raise RecursionError("too deep")
        return items

    chunk = [(f"line {n}", x) for n, x in enumerate(["a", "bad", "b"], 1)]
    found = dict(answered(Predict(), ask, chunk))
    assert (found["line 1"], found["line 3"]) == ("a", "b")
    assert str(found["line 2"]) == "fails: RecursionError: too deep"


def test_half_a_character_in_a_question(folders, tmp_path, capsys):
    """Was: half of a surrogate pair in a question ended in a TypeError of the tokenizer.
    Right: it is no text, and is named in a file as in an argument.
    """
    asked = {"question": "who \ud83d", "context": "the film"}
    article = {"paragraphs": [{"context": "the \ud83d", "qas": [{"id": 7, "question": "who"}]}]}
    (tmp_path / "a.json").write_text(json.dumps({"data": [article]}))
    argv = ["predict", "--model", folders["question-answering"], "--backend", "numpy"]
    for more, place in (([json.dumps(asked)], "0"),
                        (["--data", str(tmp_path / "a.json")], "question 7")):  # fmt: skip
        capsys.readouterr()
        assert main([*argv, *more]) == 2
        err = capsys.readouterr().err
        assert place in err and "holds half of a surrogate pair" in err
