"""Reports of the pages: too wide for a phone, every option listed, terms nowhere explained."""

import html
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

import minidistil as md
from minidistil.check.findings import Report, Row
from minidistil.cli import report
from minidistil.cli.report_words import FEW, too_few
from minidistil.tasks.fill_mask.command import GUESSES, guesses
from minidistil.tasks.text_classification.command import guesses as guessed_classes

NAMES = ("teacher", "distilled student", "same start, no teacher")


def tables(page):
    """The tables of a page: rows of cells, as they are read."""
    found = []
    for table in re.findall(r"<table.*?</table>", page, re.S):
        rows = re.findall(r"<tr>(.*?)</tr>", table, re.S)
        cells = (re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S) for row in rows)
        found.append([[html.unescape(cell) for cell in row] for row in cells])
    return found


@pytest.fixture
def run(world, tmp_path):
    """A function that writes the page of a run with some results; returns it."""
    folder = tmp_path / "run"
    shutil.copytree(world.teacher, folder)

    def written(**more):
        ended = json.loads((folder / "report.json").read_text())
        (folder / "report.json").write_text(json.dumps(ended | more))
        return report.write(folder).read_text(encoding="utf-8")

    return written


def model_rows():
    return [{"name": name, "loss": 3.9 + n, "accuracy": 0.3 - n / 10, "agreement": 1 - n / 10,
             "parameters": 10**6, "bytes": 4 * 10**6, "tokens_per_second": 1234.5}
            for n, name in enumerate(NAMES)]  # fmt: skip


def test_a_page_fits_a_phone(run):
    page = run()
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert "overflow-x: auto" in page and "max-width: 100%" in page


def test_the_table_is_the_terminals(run):
    rows = model_rows()
    shown = tables(run(models=rows))[0]
    in_the_terminal = report.models_table(rows).splitlines()
    assert len(shown) == len(in_the_terminal)
    for cells, line in zip(shown, in_the_terminal, strict=True):
        assert " ".join(" ".join(cells).split()) == " ".join(line.split())


def test_terms_have_a_line_each(run):
    page = run(models=model_rows(), ce=1.0, cos=0.1)
    assert "<dt>ce</dt><dd>cross-entropy" in page and "<dt>cos</dt><dd>1 − the cosine" in page
    assert "<dt>agreement</dt>" in page and "<dt>mse</dt>" not in page


def test_only_changed_options_are_listed(run, world):
    names = [row[0] for row in tables(run())[-1]]
    stored = json.loads((Path(world.teacher) / "run.json").read_text())["options"]
    assert "data" in names and "layers" in names
    assert "optimizer" not in names and "betas" not in names and "eps" not in names
    assert len(names) < len(stored) / 2


def test_what_to_run_next(run):
    page = run(models=model_rows(), task="fill-mask")
    assert "fill-mask" in page.split("<h2>Next</h2>")[1].splitlines()[0]


def test_too_few_steps_are_said(run):
    assert "the table means nothing below 20" in run(models=model_rows(), step=FEW - 1)
    assert "the table means nothing" not in run(models=model_rows(), step=FEW)
    assert too_few({"models": [], "step": 1}).startswith("1 step a student: ")
    assert too_few({"step": 1}) == ""


# ------------------------------------------------------- guesses


def test_guesses_are_shown(run):
    row = {"text": "it was <very> ____ .", "right": "good", **dict.fromkeys(NAMES, "bad")}
    page = run(models=model_rows(), guesses=[row] * 5)
    assert "it was &lt;very&gt; ____ ." in page
    found = next(table for table in tables(page) if table[0][0] == "text")
    assert found[0] == ["text", "right answer", *NAMES] and len(found) == 6


def test_guesses_of_masked_words():
    """Each is the model's argmax at a gap whose right answer is a word of the text."""
    teacher, tokenizer = md.from_pretrained("weights"), md.load_tokenizer("weights")
    texts = ["The movie was great and the story was good.", "I liked this film a lot."] * 4
    batch = tokenizer(texts)
    batch["labels"] = batch["input_ids"] * 0 - 100
    for row, column in ((0, 4), (1, 4), (2, 2), (4, 9), (5, 2), (6, 3), (7, 2)):
        batch["labels"][row, column] = batch["input_ids"][row, column]
        batch["input_ids"][row, column] = tokenizer.mask_id
    models = {"teacher": teacher, "distilled student": md.student_from(teacher, (0, 2))}
    found = guesses(models, tokenizer, [batch])
    assert len(found) == GUESSES and [set(row) for row in found] == [
        {"text", "right", *models}
    ] * GUESSES  # fmt: skip
    first = found[0]
    assert (
        first["text"] == "the movie was ____ and the story was good." and first["right"] == "great"
    )
    (best, *_) = md.pipeline("fill-mask", "weights")(first["text"].replace("____", "[MASK]"))
    assert first["teacher"] == best["token_str"]


def test_guesses_of_classes(world):
    """The right answer stands beside the text; a text's label is that of `predict`."""
    teacher, tokenizer = md.from_pretrained(world.classifier), md.load_tokenizer(world.classifier)
    words = ("good", "bad", "slow", "great", "dull", "fine")
    texts = [f"the film was {word} ." for word in words]
    batch = dict(tokenizer(texts))
    unlabelled = guessed_classes({"teacher": teacher}, tokenizer, [batch])
    found = guessed_classes({"teacher": teacher}, tokenizer, [batch | {"labels": np.arange(6) % 2}])
    named, ask = teacher.config.id2label, md.pipeline("text-classification", world.classifier)
    assert [list(row) for row in found] == [["text", "right", "teacher"]] * 5
    assert [row["right"] for row in found] == [named[i % 2] for i in range(5)]
    assert [row["teacher"] for row in found] == [ask(text)[0]["label"] for text in texts[:5]]
    assert [list(row) for row in unlabelled] == [["text", "teacher"]] * 5


def test_guesses_of_texts_in_several_batches(world):
    """Was: the texts of the first batch alone, and of a long text the windows in it alone."""
    teacher, tokenizer = md.from_pretrained(world.classifier), md.load_tokenizer(world.classifier)
    texts = [f"a film {'of time ' * n}" for n in range(7)]
    owners = (3, 0, 2, 4, 1, 3, 5)  # text 3 has two windows, in two batches
    batches = [dict(tokenizer(texts[n : n + 2])) | {"owners": np.array(owners[n : n + 2])}
               for n in range(0, 7, 2)]  # fmt: skip
    found = guessed_classes({"teacher": teacher}, tokenizer, batches)
    named, logits = teacher.config.id2label, teacher.forward(**tokenizer(texts)).logits
    wanted = [logits[[n for n in range(7) if owners[n] == text]].mean(0) for text in range(5)]
    assert [row["text"] for row in found[:3]] == [texts[n].strip() for n in (1, 4, 2)]
    assert [row["teacher"] for row in found] == [named[int(x.argmax())] for x in wanted]


# ------------------------------------------------------- check


def test_the_table_of_check_is_the_terminals():
    rows = [Row("embeddings", "forward", 1e-7, 2e-7, True, "a.py:3 in f"),
            Row("layer.0.q", "forward", 0.5, 2e-7, False, "a.py:<9> in g"),
            *(Row(f"grad.{n}", "gradient", 10.0 ** (n - 9), 1e-6, n < 5)
              for n in range(7))]  # fmt: skip
    found = Report("differ", "layer.0.q", rows=rows, evidence="none")
    lines = [line.split() for line in found.text().splitlines()]
    shown = tables(found.html())
    main = next(table for table in shown if table[0][0] == "quantity")
    for cells in main:
        assert " ".join(cells).split() in lines
    assert "2 of 7 gradients differ" in found.text() and "2 of 7 gradients differ" in found.html()
    assert len(main) + len(shown[-1]) - 2 == len(rows)
