"""Numbers of things in messages. Was: "1 steps a student", "1 of 2 texts are longer"."""

import pytest

from minidistil.io.counts import counted, part_of


@pytest.mark.parametrize(
    "given, text",
    [((1, "text"), "1 text"), ((0, "text"), "0 texts"), ((2000, "step"), "2,000 steps"),
     ((2, "quantity"), "2 quantities"), ((1, "quantity"), "1 quantity"), ((2, "day"), "2 days"),
     ((0, "step"), "0 steps"), ((1, "step"), "1 step"), ((2, "step"), "2 steps"),
     ((2048, "step"), "2,048 steps"), ((3, "batch"), "3 batches"),
     ((1, "entry", "agrees"), "1 entry agrees"),
     ((2, "entry", "agrees"), "2 entries agree"), ((2, "text", "has"), "2 texts have")],
)  # fmt: skip
def test_counted(given, text):
    assert counted(*given) == text


@pytest.mark.parametrize(
    "given, text",
    [((1, 3, "quantity", "is"), "1 of 3 quantities is"),
     ((2, 3, "text", "still differs"), "2 of 3 texts still differ"),
     ((1, 1, "text", "is"), "1 of 1 text is"), ((1, 2, "text", "is"), "1 of 2 texts is"),
     ((2, 3, "text", "is"), "2 of 3 texts are"), ((1, 3, "text", "has"), "1 of 3 texts has"),
     ((3, 3, "text", "has"), "3 of 3 texts have"),
     ((1, 9, "text", "begins"), "1 of 9 texts begins"),
     ((4, 1000, "text", "begins"), "4 of 1,000 texts begin")],
)  # fmt: skip
def test_part_of(given, text):
    assert part_of(*given) == text
