"""Five DistilBERTs in five styles, each correct and with every mistake planted: the mistake is
found, placed and named, and nobody who is right is accused."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
import bugs  # noqa: E402  (they need torch)
from implementations import STYLES  # noqa: E402
from small import CONFIG  # noqa: E402

NAMED = 0.95


@pytest.fixture(autouse=True)
def one_thread():
    """Arrays this small are slower on two."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def state(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def compared(style, state, folder, bug=None):
    return md.check.compare(STYLES[style](state, CONFIG.n_heads, bug), folder)


@pytest.mark.parametrize("style", STYLES)
def test_a_correct_one_is_not_accused(style, state, folder):
    report = compared(style, state, folder)
    assert (report.verdict, report.first_difference, report.diagnosis) == ("agree", None, [])
    assert {row.kind for row in report.rows} == {"forward", "output", "gradient"}
    gradients = [row.name for row in report.rows if row.kind == "gradient"]
    assert len(gradients) == len(set(gradients)) == len(state) - ("vocab_projector.weight" in state)
    assert all(row.where.startswith("tests") for row in report.rows if row.kind == "forward")


@pytest.mark.parametrize("style", STYLES)
def test_a_planted_mistake_is_named(style, state, folder):
    wrong = []
    for bug in bugs.EVERYWHERE:
        report = compared(style, state, folder, bug)
        assert report.verdict == "differ" and report.first_difference, bug
        ids = [d.id for d in report.diagnosis]
        if ids != [bug.split(":")[0]]:
            wrong.append((bug, ids, report.first_difference))
        else:
            assert (
                "implementations.py" in str(report.where)
                or "bugs.py" in str(report.where)
                or (report.where.startswith("parameter"))
            )
    assert len(wrong) <= (1 - NAMED) * len(bugs.EVERYWHERE), wrong
