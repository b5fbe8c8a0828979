"""The CUDA puzzles: right kernels are accepted, each wrong one is refused with its own sentence,
and races are found by what threads did, not by what happened to come out."""

import ast
import math
import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("greenlet", reason="the simulator's threads: pip install -e '.[test]'")

from numba import cuda, float32

from minidistil import puzzles
from minidistil.puzzles.faults import WASTES, races
from minidistil.puzzles.phase import RED
from minidistil.puzzles.recorder import record

KINDS = {"missing barrier", "race", "out of bounds", "uncoalesced access", "wrong result",
         "divergent barrier", "uninitialised memory", "no sharing"}  # fmt: skip
ALL = [puzzles.find(name) for name in puzzles.NAMES]
VARIANTS = [(puzzle, edits) for puzzle in ALL for edits in puzzle.right]
WRONG = [(puzzle, wrong) for puzzle in ALL for wrong in puzzle.wrong]


def name_of(x):
    return getattr(x, "name", getattr(x, "kind", "")).replace(" ", "-")


def checked(capsys, name, kernel):
    """(picture, what check printed)."""
    picture = puzzles.check(name, kernel)
    return picture, capsys.readouterr().out


@pytest.mark.parametrize("puzzle", ALL, ids=name_of)
def test_the_solution_is_accepted(puzzle, capsys):
    picture, said = checked(capsys, puzzle.name, puzzle.solution)
    assert said == f"✓ {puzzle.name} is right\n"
    assert ElementTree.fromstring(picture.svg).tag.endswith("svg") and len(picture.svg) < 130_000
    assert puzzles.draw(puzzle.name).svg == picture.svg


@pytest.mark.parametrize("puzzle, edits", VARIANTS, ids=name_of)
def test_right_variants_are_accepted(puzzle, edits, capsys):
    _, said = checked(capsys, puzzle.name, puzzle.edited(edits))
    assert said == f"✓ {puzzle.name} is right\n"


@pytest.mark.parametrize("puzzle, wrong", WRONG, ids=name_of)
def test_a_wrong_kernel_is_refused_with_its_own_sentence(puzzle, wrong, capsys):
    kernel = puzzle.edited(wrong.edits)
    picture, said = checked(capsys, puzzle.name, kernel)
    first, second = said.rstrip("\n").split("\n")
    note = ", the numbers are right" if wrong.kind in WASTES else ""
    assert first == f"✗ {puzzle.name}: {wrong.kind}{note}"
    assert second.startswith("  Diagnosis: ") and wrong.says in second and len(second) < 500
    assert puzzle.fault(puzzle.run(kernel)).sentence in second, "the same in every run"
    if picture is not None:
        ElementTree.fromstring(picture.svg)


def test_the_sentences_differ_and_every_kind_occurs():
    assert {wrong.kind for _, wrong in WRONG} >= KINDS
    assert {*WASTES} <= {wrong.kind for _, wrong in WRONG}
    for puzzle in ALL:
        sentences = [(wrong.kind, wrong.says) for wrong in puzzle.wrong]
        assert len(set(sentences)) == len(sentences), puzzle.name
        for sentence in puzzle.mistakes:
            assert any(wrong.says in sentence for wrong in puzzle.wrong), sentence


def test_every_file_with_a_puzzle_is_listed():
    folder = Path(puzzles.__file__).parent
    with_puzzle = {p.stem for p in folder.glob("*.py") if "PUZZLE = " in p.read_text("utf-8")}
    assert with_puzzle == set(puzzles.NAMES) and len(puzzles.NAMES) == 8
    assert all(puzzle.name == name for puzzle, name in zip(ALL, puzzles.NAMES, strict=True))


def test_the_chapter_has_every_puzzle_in_order_and_no_solution():
    """Each with a picture, an empty kernel with the solution's parameters, and a check."""
    chapter = Path(__file__).resolve().parent.parent / "notebooks" / "13_cuda_puzzles.py"
    text = chapter.read_text("utf-8")
    for call in (r'^puzzles\.draw\("(\w+)"\)$', r'^puzzles\.check\("(\w+)", \1\)$'):
        assert tuple(re.findall(call, text, re.MULTILINE)) == puzzles.NAMES
    kernels = [n for n in ast.parse(text).body if getattr(n, "name", "") in puzzles.NAMES]
    for kernel, puzzle in zip(kernels, ALL, strict=True):
        assert ast.get_docstring(kernel) and len(kernel.body) == 1
        first = ast.parse(puzzle.source()).body[0]
        assert (kernel.name, ast.unparse(kernel.args)) == (first.name, ast.unparse(first.args))


def test_an_empty_kernel_is_no_mistake(capsys):
    @cuda.jit
    def block_sum(x, total):
        """Nothing yet."""

    picture, said = checked(capsys, "block_sum", block_sum)
    assert picture is None and said.startswith("○ block_sum is still empty")


def test_a_missing_barrier_is_found_where_the_numbers_are_right(capsys):
    """Threads of the simulator run in order, which hides this mistake."""

    @cuda.jit
    def block_sum(x, total):
        t = cuda.threadIdx.x
        sums = cuda.shared.array(8, float32)
        sums[t] = 0
        for i in range(t, x.shape[0], 8):
            sums[t] += x[i]
        if t == 7:
            result = float32(0)
            for j in range(8):
                result += sums[j]
            total[0] = result

    puzzle = puzzles.find("block_sum")
    assert puzzle.run(block_sum).arrays["total"].values == puzzle.wanted()
    _, said = checked(capsys, "block_sum", block_sum)
    assert "✗ block_sum: missing barrier" in said and "thread 7 reads sums[0]" in said
    assert "(line 11: result += sums[j])" in said


def test_device_functions_and_math_are_those_of_a_device(capsys):
    @cuda.jit(device=True)
    def power(x):
        return math.exp(x)

    @cuda.jit
    def relu_map(x, y):
        i = cuda.grid(1)
        y[i] = power(x[i] * 30) / power(x[i] * 30)

    y = puzzles.find("relu_map").run(relu_map).arrays["y"].values
    assert np.isnan(y[0]) and y[1] == 1, "e^90 is no float32"


@pytest.mark.parametrize("kernel, says", [
    (lambda x: None, "✗ relu_map: its parameters are (x), wanted (x, y)"),
    (lambda x, y: np.maximum(x, 0), "x is used one cell at a time, as in x[i]"),
    (lambda x, y: list(x), "x is used one cell at a time"),
    (lambda x, y: x[1:], "x[…] needs integers, not slice"),
    (lambda x, y: x[0, 0], "x has 1 axes, so x[…] needs as many indices, not 2"),
    (lambda x, y: y[0], "no thread writes y[0]; cells that are not written: 8 of 8"),
])  # fmt: skip
def test_what_is_no_kernel_is_described(kernel, says, capsys):
    assert says in checked(capsys, "relu_map", kernel)[1]


def test_an_unknown_puzzle_is_refused():
    with pytest.raises(ValueError, match="no puzzle is named 'sum'; known: relu_map, guarded_add"):
        puzzles.check("sum", None)


def test_the_solution_is_printed_as_a_kernel(capsys):
    puzzles.solution("guarded_add")
    assert capsys.readouterr().out.startswith("@cuda.jit\ndef guarded_add(a, b, y):\n")


def test_a_picture_marks_cells_outside(capsys):
    puzzle = puzzles.find("guarded_add")
    picture, _ = checked(capsys, "guarded_add", puzzle.edited(puzzle.wrong[0].edits))
    assert picture.svg.count('stroke-dasharray="3 2"') == 6  # two of a, b and y
    assert "block 2" in picture.svg


def test_a_picture_marks_the_accesses_of_a_mistake(capsys):
    puzzle = puzzles.find("block_sum")
    picture, _ = checked(capsys, "block_sum", puzzle.edited(puzzle.wrong[0].edits))
    assert picture.svg.count(RED) == 4, "the cell that is read, that is written, and two lines"
    assert RED not in puzzles.draw("block_sum").svg


STEP = st.tuples(st.sampled_from("rwb"), st.integers(0, 2))  # read, write, barrier; a cell
PROGRAMS = st.lists(st.lists(STEP, max_size=5), min_size=3, max_size=3)


def outcome(programs, order):
    """Run one program a thread; order: which program the first, second, third thread runs."""

    def kernel(cells, out):
        me = order[cuda.threadIdx.x]
        seen, passed = 0, 0
        for number, (what, cell) in enumerate(programs[me]):
            if what == "r":
                seen = 10 * seen + cells[cell]
            elif what == "w":
                cells[cell] = 1 + me + 3 * number
            else:
                passed += 1
                cuda.syncthreads()
        for _ in range(passed, 5):
            cuda.syncthreads()
        out[me] = seen

    noted = record(kernel, (1,), (3,), {"cells": np.zeros(3), "out": np.zeros(3)})
    assert noted.error is None
    return noted, [noted.arrays[name].values.tolist() for name in ("cells", "out")]


@given(PROGRAMS)
def test_a_result_that_depends_on_the_order_of_threads_has_a_race(programs):
    noted, forwards = outcome(programs, (0, 1, 2))
    backwards_noted, backwards = outcome(programs, (2, 1, 0))
    found = [bool(list(races(x))) for x in (noted, backwards_noted)]
    assert found[0] == found[1], "the analysis does not depend on the order"
    if forwards != backwards:
        assert found[0]
