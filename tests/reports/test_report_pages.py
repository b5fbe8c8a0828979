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
from minidistil.cli import report, students
from minidistil.cli.report_words import FEW, too_few
from minidistil.cli.students import Entry
from minidistil.cli.task_options import measure_kept
from minidistil.tasks.fill_mask.guessed_words import GUESSES, guesses
from minidistil.tasks.text_classification import command
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


def test_the_share_kept():
    """Of accuracy for masked words; without a share of a teacher that is never right."""
    teacher, tokenizer = md.from_pretrained("weights"), md.load_tokenizer("weights")
    student = Entry("student", Path(), md.student_from(teacher, (0, 2)), {})
    batch = masked(tokenizer, ["This was the worst movie I have ever seen."] * 2, [(0, 8), (1, 4)])
    first, second = students.compare(teacher, [student], [batch])
    assert first["kept"] == 1 and first["accuracy"] > 0
    assert second["kept"] == second["accuracy"] / first["accuracy"]
    batch["labels"][batch["labels"] >= 0] = tokenizer.mask_id
    assert [row["kept"] for row in students.compare(teacher, [student], [batch])] == [None] * 2
    assert "kept" in report.models_table([first, second]).splitlines()[0]


@pytest.mark.parametrize(("task", "found", "metric"), [
    ("fill-mask", ("loss", "accuracy", "agreement"), "accuracy"),
    ("text-generation", ("loss", "perplexity", "accuracy", "agreement"), "accuracy"),
    ("text-classification", ("loss", "accuracy", "macro_f1", "matthews"), "accuracy"),
    ("text-classification", ("loss", "mse", "pearson", "spearman"), "spearman"),
    ("question-answering", ("loss", "exact", "f1", "agreement"), "f1"),
    ("token-classification", ("agreement",), None),
])  # fmt: skip
def test_the_metric_whose_share_is_kept(task, found, metric):
    assert measure_kept(task, dict.fromkeys(found, 1.0)) == metric


def test_kept_in_the_table_has_a_line_and_the_kept_step_none(run):
    kept = {"step": 2, "measure": "loss", "value": 4.0, "why": "the best loss"}
    assert "<dt>kept</dt>" not in run(kept=kept)
    assert "<dt>kept</dt>" in run(kept=kept, models=[row | {"kept": 0.9} for row in model_rows()])


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
    page = run(models=model_rows(), guesses=[row] * 5, task="fill-mask")
    assert "it was &lt;very&gt; ____ ." in page
    found = next(table for table in tables(page) if table[0][0] == "text")
    assert found[0] == ["text", "right answer", *NAMES] and len(found) == 6


def test_guesses_end_the_command():
    """Three texts, each on a line; below them a line a model, as in the table of models."""
    rows = [{"text": f"it was {'very ' * n * 40}____ .", "right": "good", "teacher": "good",
             "distilled student": "bad", "probabilities": {"teacher": 0.914}}
            for n in range(5)]  # fmt: skip
    title, _, *texts, _, header, right, teacher, student = report.guesses_table(
        rows, "fill-mask"
    ).splitlines()
    assert "teacher is most certain" in title and texts[0] == "1  it was ____ ."
    assert len(texts) == 3 and all(len(text) < 80 for text in texts)
    assert header.split() == ["1", "2", "3"] and right.split() == ["right", "answer", *["good"] * 3]
    assert (
        teacher.split() == ["teacher", *["good", "91%"] * 3] and student.split()[2:] == ["bad"] * 3
    )


def masked(tokenizer, texts, places):
    """A batch with masks in some places (row, column)."""
    batch = tokenizer(texts)
    batch["labels"] = batch["input_ids"] * 0 - 100
    for row, column in places:
        batch["labels"][row, column] = batch["input_ids"][row, column]
        batch["input_ids"][row, column] = tokenizer.mask_id
    return batch


def words(text):
    """What the bundled model puts in the gap of a text first."""
    return md.pipeline("fill-mask", "weights")(text.replace("____", "[MASK]"))[0]


def test_guesses_of_masked_words():
    """Each is the model's argmax at a gap whose right answer is a word of the text."""
    teacher, tokenizer = md.from_pretrained("weights"), md.load_tokenizer("weights")
    texts = ["The movie was great and the story was good.", "I liked this film a lot."] * 4
    places = (0, 4), (1, 4), (2, 2), (4, 9), (5, 2), (6, 3)  # "was" is too short
    batch = masked(tokenizer, texts, places)
    models = {"teacher": teacher, "distilled student": md.student_from(teacher, (0, 2))}
    found = guesses(models, tokenizer, [batch])
    assert len(found) == GUESSES and [set(row) for row in found] == [
        {"text", "right", *models, "probabilities"}
    ] * GUESSES  # fmt: skip
    first = next(row for row in found if row["right"] == "great")
    assert first["text"] == "the movie was ____ and the story was good."
    best = [words(row["text"]) for row in found]
    assert [row["teacher"] for row in found] == [word["token_str"] for word in best]
    mine = [row["probabilities"]["teacher"] for row in found]
    np.testing.assert_allclose(mine, [word["score"] for word in best], rtol=1e-5)
    assert mine == sorted(mine, reverse=True) and len(set(mine)) > 1


def test_guesses_are_of_whole_sentences():
    """A sentence that fits a line is shown alone, with no other mask, and is what models read."""
    teacher, tokenizer = md.from_pretrained("weights"), md.load_tokenizer("weights")
    texts = [
        "It ends. This was the worst movie I have ever seen. Avoid it.",
        "It begins. You sing of zebras and xylophones all the time. The end.",
        "No end marks but many words stand here which no line would show as a sentence",
        "So good. I was on the edge of my seat for most of the movie. Wow.",
    ]
    tokens = [[tokenizer.decode([i]) for i in ids] for ids in tokenizer(texts)["input_ids"]]
    places = [(0, tokens[0].index("ever")), (0, tokens[0].index("was")),
              (1, tokens[1].index("sing")), (2, tokens[2].index("words")),
              (3, tokens[3].index("for"))]  # fmt: skip
    found = guesses({"teacher": teacher}, tokenizer, [masked(tokenizer, texts, places)])
    assert [(row["text"], row["right"]) for row in found] == [
        ("this was the worst movie i have ____ seen.", "ever"),  # "for" has three letters
        ("you ____ of zebras and xylophones all the time.", "sing"),
        ("no end marks but many ____ stand here which no line would show as …", "words"),
    ]
    best = [words(row["text"].strip(" …")) for row in found]
    assert [row["teacher"] for row in found] == [word["token_str"] for word in best]


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


def test_guesses_of_texts_that_fit_on_a_line(world, monkeypatch):
    monkeypatch.setattr(command, "TEXT_LENGTH", 25)
    teacher, tokenizer = md.from_pretrained(world.classifier), md.load_tokenizer(world.classifier)
    texts = ["a film " + "of time " * n for n in (3, 1, 2, 4, 0)]
    batches = [dict(tokenizer(texts[n])) for n in range(5)]
    found = guessed_classes({"teacher": teacher}, tokenizer, batches)
    ask, order = md.pipeline("text-classification", world.classifier), (1, 2, 4, 0, 3)
    assert [row["text"] for row in found] == [texts[n].strip() for n in order]
    assert [row["teacher"] for row in found] == [ask(texts[n])[0]["label"] for n in order]


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
