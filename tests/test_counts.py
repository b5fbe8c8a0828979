"""Numbers of things in messages, in the singular and in the plural."""

import pytest

from minidistil.io.counts import counted, part_of


@pytest.mark.parametrize(
    "given, text",
    [((1, "text"), "1 text"), ((0, "text"), "0 texts"), ((2000, "step"), "2,000 steps"),
     ((2, "quantity"), "2 quantities"), ((1, "quantity"), "1 quantity"), ((2, "day"), "2 days"),
     ((3, "batch"), "3 batches"), ((1, "entry", "agrees"), "1 entry agrees"),
     ((2, "entry", "agrees"), "2 entries agree"), ((2, "text", "has"), "2 texts have")],
)  # fmt: skip
def test_counted(given, text):
    assert counted(*given) == text


def test_part_of():
    assert part_of(1, 3, "quantity", "is") == "1 of 3 quantities is"
    assert part_of(2, 3, "text", "still differs") == "2 of 3 texts still differ"
