"""predict --lines for every task: a stream in, a line out for each item in its order."""

import io
import json
import os
import random
import subprocess
import sys

import pytest
from cli_world import BAD, GOOD

import minidistil as md
from minidistil.cli import main
from minidistil.cli.predict_lines import answered
from minidistil.config import Gpt2Config
from minidistil.model.seq2seq.encoder_decoder_from import encoder_decoder_from
from minidistil.tasks.pipeline import pipeline

RNG = random.Random(5)
TEXTS = [" ".join(RNG.choices(f"{GOOD} {BAD}".split(), k=RNG.randint(1, 9))) for _ in range(70)]
BROKEN = ["{broken", "[1", '{"nothing": "here"}', '{"text": 3}']
FIELDS = {
    "question-answering": lambda x: {"question": f"who {x[:9]}", "context": x},
    "multiple-choice": lambda x: {"question": x, "choices": ["the film", "a dull plot"]},
    "text-classification": lambda x: {"text": x, "text_pair": "the film"},
    "extractive-summarization": lambda x: {"document": [x, "the film was great", "a plot"]},
    "translation": lambda x: {"source": [x, "great"], "target": "unread"},
    "summarization": lambda x: {"document": x, "summary": "unread"},
}
OBJECTS = ("question-answering", "multiple-choice")
TASKS = (*FIELDS, "token-classification", "sentence-embedding", "fill-mask", "feature-extraction",
         "text-generation")  # fmt: skip


@pytest.fixture(scope="module")
def folders(world, tmp_path_factory):
    """A model of random weights for each task, with the words of the world's teacher."""
    home, tokenizer = tmp_path_factory.mktemp("lines"), md.load_tokenizer(world.teacher)
    found = {"sentence-embedding": world.teacher, "feature-extraction": world.teacher,
             "fill-mask": world.teacher}  # fmt: skip
    for task in TASKS:
        if task in found:
            continue
        if task in ("translation", "summarization"):
            body = md.from_pretrained(world.teacher, task="fill-mask")
            ids = {"start": tokenizer.cls_id, "eos": tokenizer.sep_id}
            model = encoder_decoder_from(body, decoder_layers=(0,), **ids)
        elif task == "text-generation":
            sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 64}
            words = tokenizer.vocab_size
            model = md.from_config(Gpt2Config(vocab_size=words, **sizes), task)
        else:
            config = md.from_pretrained(world.teacher, task="fill-mask").config
            model = md.from_config(config, task)
        model.save_pretrained(home / task)
        tokenizer.save(home / task)
        found[task] = str(home / task)
    return found


def stdin(monkeypatch, text):
    data = text if isinstance(text, bytes) else text.encode()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(data)))


def lines(capsys, folder, task, *more, code=0):
    argv = ["predict", "--model", folder, "--task", task, "--lines", "--backend", "numpy", *more]
    assert main([str(x) for x in argv]) == code
    out, err = capsys.readouterr()
    return [json.loads(line) for line in out.splitlines()], err


def wanted(folder, task, given):
    predict = pipeline(task, folder, backend="numpy")
    if task == "translation":  # an encoder–decoder reads them as one text
        given = [" ".join(x["source"]) for x in given]
    elif task == "summarization":
        given = [x["document"] for x in given]
    return [predict([x])[0] if task != "fill-mask" else predict(x) for x in given]


def alike(mine, theirs):
    """The same answers, numbers within what another batch rounds."""
    if isinstance(theirs, dict):
        assert set(mine) == set(theirs)
        for name, x in theirs.items():
            alike(mine[name], x)
    elif isinstance(theirs, list):
        assert len(mine) == len(theirs)
        for a, b in zip(mine, theirs, strict=True):
            alike(a, b)
    elif isinstance(theirs, float):
        assert mine == pytest.approx(theirs, rel=1e-3, abs=1e-5)
    else:
        assert mine == theirs


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("task", TASKS)
def test_every_task(task, folders, tmp_path, capsys, monkeypatch):
    """Objects of a file and of stdin, bad ones among them; plain texts where a task reads some."""
    texts = [f"the [MASK] {x}" if task == "fill-mask" else x for x in TEXTS[:12]]
    if task == "text-generation":
        texts = texts[:2]
    items = [FIELDS.get(task, lambda x: {"text": x})(x) for x in texts]
    asked = items if task in FIELDS else texts
    said = wanted(folders[task], task, asked)
    rows = [json.dumps(x) for x in items]
    rows[1:1] = BROKEN  # lines 2 to 5
    (tmp_path / "in.jsonl").write_text("\n".join(rows) + "\n\n")
    for given in ("stdin", tmp_path / "in.jsonl"):
        more = ["--data", given] if given != "stdin" else []
        if not more:
            # A line that does not begin with { is a text, but for those that need objects.
            keep = [r for r in rows if r != "[1" or task in OBJECTS]
            stdin(monkeypatch, "\n".join(keep))
        found, err = lines(capsys, folders[task], task, *more, code=2)
        alike(found, said)
        count = 4 if more or task in OBJECTS else 3
        assert [f"{given} line {n}: " in err for n in range(1, 7)] == [
            1 < n < 2 + count for n in range(1, 7)
        ]
        assert f"error: {count} of {len(items) + count} items have no answer" in err
    if task not in OBJECTS and task not in FIELDS:
        stdin(monkeypatch, "\n".join(texts))
        alike(lines(capsys, folders[task], task)[0], said)


def test_the_order_is_that_of_the_items_and_neighbours_are_alike_in_length():
    batches, names = [], []

    class Predict:
        called = None

    predict = Predict()

    def ask(items):
        batches.append([len(x) for x in items])
        names.append([predict.called(i) for i in range(len(items))])
        if "bad" in items:
            raise ValueError("this one is bad")
        return [x.upper() for x in items]

    chunk = [(f"line {n}", text) for n, text in enumerate(TEXTS, 1)]
    chunk[3], chunk[40] = ("line 4", ValueError("no text")), ("line 41", "bad")
    found = list(answered(predict, ask, chunk))
    assert [place for place, _ in found] == [f"line {n}" for n in range(1, 71)]
    for (_, answer), (_, item) in zip(found, chunk, strict=True):
        if item == "bad" or isinstance(item, ValueError):
            assert isinstance(answer, ValueError)
        else:
            assert answer == item.upper()
    long = [b for b in batches if len(b) > 1]
    assert [x for b in long for x in b] == sorted(x for b in long for x in b)
    assert len(long) == 3 and all(place in dict(chunk) for some in names for place in some)


def test_a_long_text_is_named_by_its_line(world, capsys, monkeypatch):
    stdin(monkeypatch, f"short\n{'the film ' * 60}\n")
    found, err = lines(capsys, world.classifier, "text-classification")
    assert len(found) == 2
    assert "warning: stdin line 2 is longer than the model's 32 tokens" in err


@pytest.mark.parametrize(
    ("name", "content", "answers", "bad"),
    [
        ("a.csv", b'text,x\nfine,1\nshort\n"two\nlines",2\nan,odd,one\ngood,3\n', 3, {3, 6}),
        ("b.tsv", b"text\tx\nfine\t1\n\xff\t2\nshort\ngood\t3\n", 2, {3, 4}),
        ("c.csv", b'text,x\nfine,1\n\xe9,2\ngood,3\n"open,4\nlost,5\n', 2, {3, 5}),
        ("d.txt", b"fine\n\n\xff\ngood\n", 2, {3}),
        ("e.jsonl", b'{"text": "fine"}\n\xff\n{"text": ""}\n{"text": "\\ud800"}\n', 1, {2, 3, 4}),
    ],
)
def test_a_bad_row_of_a_file_is_passed_over(world, tmp_path, capsys, name, content, answers, bad):
    path = tmp_path / name
    path.write_bytes(content)
    found, err = lines(capsys, world.classifier, "text-classification", "--data", path, code=2)
    assert len(found) == answers
    assert {n for n in range(1, 9) if f"{path} line {n}: " in err} == bad
    assert main(["predict", "--model", world.classifier, "--data", str(path)]) == 2
    assert f"error: {path} line {min(bad)}: " in capsys.readouterr().err


def test_pairs_of_a_table(world, tmp_path, capsys):
    path, rows = tmp_path / "pairs.tsv", [("a film", "a plot"), ("great", "dull")]
    path.write_text("sentence1\tsentence2\n" + "".join(f"{a}\t{b}\n" for a, b in rows))
    asked = [{"text": a, "text_pair": b} for a, b in rows]
    said = wanted(world.classifier, "text-classification", asked)
    task = "text-classification"
    alike(lines(capsys, world.classifier, task, "--data", path)[0], said)
    columns = ["--text-column", "sentence2", "--text-pair-column", "sentence1"]
    said = wanted(world.classifier, task, [{"text": b, "text_pair": a} for a, b in rows])
    alike(lines(capsys, world.classifier, task, "--data", path, *columns)[0], said)
    assert main(["predict", "--model", world.classifier, json.dumps(asked[0])]) == 0


def test_what_is_said_at_once(world, tmp_path, capsys, monkeypatch):
    stdin(monkeypatch, " \n\n")
    assert "stdin holds no text" in lines(capsys, world.teacher, "fill-mask", code=2)[1]
    (tmp_path / "a.csv").write_text("question,context\na,b\n")
    err = lines(capsys, world.classifier, "question-answering", "--data", tmp_path / "a.csv",
                code=2)[1]  # fmt: skip
    assert "must hold one JSON object a line; name it .jsonl" in err
    stdin(monkeypatch, "no gap")
    err = lines(capsys, world.teacher, "fill-mask", code=2)[1]
    assert "error: stdin line 1: has no [MASK] for the model" in err
    stdin(monkeypatch, "fine")
    found, err = lines(capsys, world.classifier, "text-classification", "--json")
    assert len(found) == 1 and not err


def test_answers_come_before_the_input_ends(world):
    """Whoever writes a line and waits gets its answer."""
    argv = [sys.executable, "-m", "minidistil", "predict", "--model", world.classifier, "--lines",
            "--backend", "numpy"]  # fmt: skip
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          env=os.environ) as running:  # fmt: skip
        for text in ("fine\n", "a dull plot\n"):
            running.stdin.write(text.encode())
            running.stdin.flush()
            assert "label" in json.loads(running.stdout.readline())
        running.stdin.write(b"half of a line")
        running.stdin.close()
        assert "label" in json.loads(running.stdout.readline())
    assert running.returncode == 0
