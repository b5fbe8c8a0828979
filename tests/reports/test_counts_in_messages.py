"""Reports of numbers in messages: "1 steps a student", "1 of 2 texts are longer"."""

import pytest

from minidistil.io.counts import counted, part_of


@pytest.mark.parametrize(("number", "shown"), [
    (0, "0 steps"), (1, "1 step"), (2, "2 steps"), (2048, "2,048 steps"),
])  # fmt: skip
def test_a_number_and_its_noun(number, shown):
    assert counted(number, "step") == shown


@pytest.mark.parametrize(("number", "total", "verb", "shown"), [
    (1, 1, "is", "1 of 1 text is"), (1, 2, "is", "1 of 2 texts is"),
    (2, 3, "is", "2 of 3 texts are"),
    (1, 3, "has", "1 of 3 texts has"), (3, 3, "has", "3 of 3 texts have"),
    (1, 9, "begins", "1 of 9 texts begins"), (4, 1000, "begins", "4 of 1,000 texts begin"),
])  # fmt: skip
def test_a_part_of_a_total_and_its_verb(number, total, verb, shown):
    assert part_of(number, total, "text", verb) == shown
