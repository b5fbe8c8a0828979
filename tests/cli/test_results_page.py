"""The page of results: it is what the command makes from the rows, and says what they hold."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from minidistil.cli import main, reproduce
from minidistil.cli.reproduce import results_page, results_pictures, row_file
from minidistil.cli.reproduce.promise import claims, kept_by, read_promise, sentence
from minidistil.cli.reproduce.results_page import PAGE, page
from minidistil.cli.reproduce.summary import summaries

NOTEBOOKS = Path(__file__).resolve().parent.parent.parent / "notebooks"
MACHINE = {"processor": "a processor", "threads": 2, "date": "2026-11-29",
           "versions": {"minidistil": "0.1.0"}}  # fmt: skip


def numbers(*accuracies, bytes=1000, joules=7500.0):
    """The results of a stage; one value is of no seed."""
    seeds = map(str, range(len(accuracies))) if len(accuracies) > 1 else ["-"]
    return {
        seed: {"accuracy": x, "bytes": bytes, "parameters": 250, "energy": "15 W assumed",
               "joules": joules * (1 + i) / len(accuracies)}
        for i, (seed, x) in enumerate(zip(seeds, accuracies, strict=True))
    }  # fmt: skip


def row_of(name, stages, times=2.0, **settings):
    """A row with results of these stages; all but the first are `times` as fast as it."""
    first = next(iter(stages))
    speed = {n: {"times": 1.0 if n == first else times, "joules": 9.0, "energy": "RAPL"}
             for n in stages}  # fmt: skip
    made = [row_file.Stage(n, f"train --seed {{seed}} {n}", 1, n != first) for n in stages]
    result = {"machine": MACHINE, "stages": stages, "speed": speed}
    return row_file.ResultsRow(
        **{"use": f"the task {name}", "data": {"folder": "d", "source": "s", "prepare": "glue"},
           "metric": "accuracy", "measure": "evaluate --data {test}", "stages": made,
           "seeds": [0, 1, 2], "results": {"full": result}, "path": Path(f"{name}.json")} | settings
    )  # fmt: skip


def task(name, teacher, distilled, same, **settings):
    """A row of a task with three seeds around the medians."""
    around = [[x - 0.01, x, x + 0.02] for x in (distilled, same, 0.1)]
    names = ("distilled", "same-start", "random-start")
    students = {n: numbers(*x, bytes=400) for n, x in zip(names, around, strict=True)}
    return row_of(name, {"teacher": numbers(teacher), **students}, **settings)


def test_the_committed_page_is_made_of_the_committed_rows():
    rows = [row_file.read_row(name) for name in row_file.names()]
    stored = (NOTEBOOKS / PAGE).read_text(encoding="utf-8")
    assert stored == page(rows, read_promise()), "minidistil reproduce --page notebooks"
    for line in stored.splitlines():
        if line.startswith("!["):
            assert (NOTEBOOKS / line[line.rindex("(") + 1 : -1]).is_file()


def test_tasks_and_their_average():
    text = page([task("one", 0.8, 0.76, 0.75), task("two", 0.5, 0.4, 0.45)], read_promise())
    assert "| [the task one](#one) | accuracy | 80.0 | 76.0 | 75.0 | 10.0 | 95.0 % | yes |" in text
    assert "| [the task two](#two) | accuracy | 50.0 | 40.0 | 45.0 | 10.0 | 80.0 % | no |" in text
    # the share of the averages: 58 of 65, not the mean of 95 and 80 %
    assert "| macro average |  | 65.0 | 58.0 | 60.0 | 10.0 | 89.2 % | 1 of 2 |" in text


def test_a_better_start_alone_counts():
    row = task("one", 0.8, 0.76, 0.75)
    row.results["full"]["stages"]["random-start"] = numbers(0.7, 0.77, 0.78)
    text = page([row], read_promise())
    assert "same start, labels alone | random start, labels alone |" in text
    assert "| 80.0 | 76.0 | 75.0 | 77.0 | 95.0 % | no |" in text


@pytest.mark.parametrize("best,above", [(0.74, "yes, every seed"), (0.75, "yes")])
def test_medians_and_every_seed_are_told_apart(best, above):
    """The worst distilled student has 0.75."""
    row = task("one", 0.8, 0.76, 0.75)
    row.results["full"]["stages"]["same-start"] = numbers(0.7, 0.72, best)
    text = page([row], read_promise())
    assert f"| 80.0 | 76.0 | 72.0 | 10.0 | 95.0 % | {above} |" in text and "| 1 of 1 |" in text


def with_shares(name="few"):
    """A row that is repeated over two shares of the labels."""
    parts = {share: {"stages": {"teacher": numbers(t), "distilled": numbers(t - 0.1, t, t + 0.1)}}
             for share, t in (("0.1", 0.8), ("0.01", 0.5))}  # fmt: skip
    full = {"machine": MACHINE, "shares": parts}
    return row_of(name, parts["0.1"]["stages"], shares=[0.01, 0.1], results={"full": full})


def test_label_curves():
    text = page([with_shares()], read_promise())
    assert "## Tasks" not in text and "## Few labels" in text
    assert "| 1 % | 50.0 | 50.0 (40.0 to 60.0) |\n| 10 % | 80.0 | 80.0 (70.0 to 90.0) |" in text
    assert "| 1 % of the labels: distilled | 50.0 | 40.0 to 60.0 | 3 | 100.0 % |" in text


def ablation(**accuracies):
    """A row like table4 with these medians."""
    stages = {"teacher": numbers(0.5)}
    stages |= {n.replace("_", "-"): numbers(x - 0.01, x, x + 0.01) for n, x in accuracies.items()}
    for by_seed in stages.values():
        for one in by_seed.values():
            one["loss"] = 4 - one["accuracy"]
    paper = {"from": "all", "points": {"without-ce": -2.96, "without-mlm": -0.31}}
    return row_of("table", stages, paper=paper)


def test_what_the_paper_leaves_out():
    text = page([ablation(all=0.4, without_ce=0.38, without_mlm=0.395)], read_promise())
    assert "| without ce | 38.0 | 37.0 to 39.0 | 3.620 | −2.00 | −2.96 |" in text
    assert "| all | 40.0 | 39.0 to 41.0 | 3.600 |  |  |" in text
    assert "All signs are the paper's. The order from the largest drop to the" in text
    assert "smallest is the same." in text
    text = page([ablation(all=0.4, without_ce=0.41, without_mlm=0.39)], read_promise())
    assert "| +1.00 | −2.96 |" in text
    assert "The sign is not the paper's: without ce. The order" in text
    assert "is here without mlm, without ce, there without ce, without mlm." in text


def test_what_the_papers_student_keeps():
    stages = {"teacher": numbers(0.79, 0.8, 0.81), "student": numbers(0.75, 0.76, 0.8)}
    row = row_of("own", stages, paper={"kept": {"student": 0.969}})
    assert "| [the task own](#own) | 80.0 | 76.0 | 95.0 % | 96.9 % |" in page([row], read_promise())


def test_the_section_of_a_row():
    tried = [{"stage": "distilled", "tried": "--lr 3e-4", "score": 0.75}]
    text = page([task("one", 0.8, 0.76, 0.75, notes=["A sentence."], search=tried)], read_promise())
    assert "| distilled | 76.0 | 75.0 to 78.0 | 3 | 95.0 % | 0.0 | 0.0 | 2.00 | 9.0 | 5.0 |" in text
    assert "| teacher | 80.0 | – | 1 | 100.0 % |" in text
    assert "* A sentence." in text and "| distilled | `--lr 3e-4` | 0.7500 |" in text
    assert "minidistil train --seed {seed} distilled --out {distilled}" in text
    assert "minidistil evaluate --data {test} --model {NAME}" in text
    assert "a processor, 2 threads, minidistil 0.1.0, 2026-11-29." in text
    assert "Energy: 15 W assumed and RAPL." in text and "`minidistil reproduce one`" in text


def test_rows_without_results_are_left_out_unless_others_need_them():
    done = task("one", 0.8, 0.76, 0.75)
    empty = replace(task("two", 0.8, 0.76, 0.75), results={})
    assert "the task two" not in page([done, empty], read_promise()) and "## Tasks" not in page(
        [empty], read_promise()
    )
    text = page([replace(done, needs=["two"]), replace(empty, measure="")], read_promise())
    assert "### two" in text and "[the task two]" not in text


@pytest.mark.filterwarnings("ignore")
def test_page_and_pictures_in_a_folder(tmp_path, monkeypatch, capsys):
    pytest.importorskip("matplotlib")
    rows = [task("one", 0.8, 0.76, 0.75), task("two", 0.5, 0.4, 0.45), with_shares()]
    for _ in range(2):  # the second time over its own page
        results_page.write(rows, read_promise(), tmp_path)
    assert (tmp_path / PAGE).read_text() == page(rows, read_promise())
    for picture in (results_page.KEPT, results_page.LABELS):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")
    assert main(["reproduce", "one", "--page", str(tmp_path)]) == 2
    assert "--page is made of all rows" in capsys.readouterr().err


@pytest.mark.parametrize("name", [PAGE, results_page.KEPT, results_page.LABELS])
def test_a_file_of_another_is_not_overwritten(tmp_path, capsys, name):
    pytest.importorskip("matplotlib")
    (tmp_path / name).write_bytes(b"\x89PNG mine \xff")
    assert main(["reproduce", "--page", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert f"{name} is not a p" in error and "is not overwritten" in error
    assert [path.name for path in tmp_path.iterdir()] == [name]
    assert (tmp_path / name).read_bytes() == b"\x89PNG mine \xff"


@pytest.mark.filterwarnings("ignore")
def test_students_are_drawn_where_they_are(tmp_path, monkeypatch):
    """At their share of the teacher's bytes, their speed, and what they keep, all in per cent."""
    pytest.importorskip("matplotlib")
    drawn = []
    monkeypatch.setattr(results_pictures, "_save", lambda figure, path: drawn.append(figure))
    row = task("one", 0.8, 0.76, 0.75)
    results_pictures.draw_kept(tmp_path, [summaries(row, row.results["full"])])
    size, speed = drawn[0].axes
    found = [[[*of.get_offsets()[0]] for of in axes.collections if len(of.get_offsets())]
             for axes in (size, speed)]  # fmt: skip
    low = results_pictures.LOWEST - 0.5  # the random start keeps 12.5 %
    for points, x in zip(found, (40, 2), strict=True):
        assert points == [pytest.approx([x, kept]) for kept in (95, 93.75, low)]


def test_a_row_is_stored_with_what_it_was_given(tmp_path):
    path = tmp_path / "one.json"
    given = {
        "use": "u", "data": {"folder": "d", "source": "s", "prepare": "glue"}, "metric": "f1",
        "stages": [{"name": "a", "command": "finetune --data {train}", "minutes": 2}],
        "results": {"quick": {"x": 1}},
    }  # fmt: skip
    path.write_text(json.dumps(given))
    row_file.read_row(str(path)).store("full", {"y": 2})
    assert json.loads(path.read_text()) == given | {
        "results": {"quick": {"x": 1}, "full": {"y": 2}}
    }


# ------------------------------------------------------- the promise


def promised(name, kept, times=1.7, bytes=300, teacher=0.5):
    """A row whose int8 student keeps a share of its teacher's metric, with its result."""
    student = numbers(0.1, teacher * kept, 0.9, bytes=bytes)
    stages = {"teacher": numbers(teacher), "int8": student}
    row = row_of(name, stages, times)
    return row, row.results["full"]


@pytest.mark.parametrize(("rows", "text"), [
    ([promised("a", 0.98), promised("b", 0.99)],
     "60 % smaller: yes, at least 70.0 % on every task; "
     "60 % faster: yes, at least 1.70 times as fast on every task; "
     "97 % kept: yes, 98.5 % in the macro average"),
    ([promised("a", 0.98, times=1.55), promised("b", 0.96)],
     "60 % faster: no, at least 1.55 times as fast on every task; "
     "97 % kept: yes, 97.0 % in the macro average; below 97 % on b (96.0 %)"),
    ([promised("a", 0.9, bytes=500), promised("b", 0.96)],
     "60 % smaller: no, at least 50.0 % on every task; "
     "60 % faster: yes, at least 1.70 times as fast on every task; "
     "97 % kept: no, 93.0 % in the macro average; below 97 % on a (90.0 %), b (96.0 %)"),
    ([promised("a", 0.9, teacher=0.25), promised("b", 1.0, teacher=0.75)],
     "97 % kept: yes, 97.5 % in the macro average; below 97 % on a (90.0 %)"),
])  # fmt: skip
def test_the_promise_says_which_part_holds(rows, text):
    found = kept_by(read_promise(), rows)
    assert text in sentence(claims(read_promise(), found))
    assert page([row for row, _ in rows], read_promise()).count("**97 % kept: ") == 1


def test_the_stored_results_of_all_rows_decide(monkeypatch, capsys):
    rows = [promised("a", 0.98)[0], promised("b", 0.9)[0], task("c", 0.8, 0.76, 0.75)]
    rows.append(replace(promised("d", 0.98)[0], results={}))
    rows.append(promised("e", 0.98)[0])
    del rows[-1].results["full"]["stages"]["int8"]  # a stage that is newer than the result
    assert "60 % smaller" in page(rows, read_promise())
    monkeypatch.setattr(reproduce, "_rows", lambda: rows)
    assert main(["reproduce", "promise", "--stored"]) == 1
    text = capsys.readouterr().out
    assert "97 % kept: no, 94.0 %" in text and "without a result: d, e\n" in text
    monkeypatch.setattr(reproduce, "_rows", lambda: rows[:1])
    assert main(["reproduce", "promise", "--stored", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == {"a": pytest.approx(0.98)}
    monkeypatch.setattr(reproduce, "_rows", lambda: rows[2:])
    assert main(["reproduce", "promise", "--stored"]) == 2
    assert "no row has a full result of int8" in capsys.readouterr().err
