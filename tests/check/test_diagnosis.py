"""No false accusation: a mistake is named where it is, if it reproduces what it changes."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from bugs import Plan  # noqa: E402
from implementations import Modules  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG, saved  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture
def mine(folder):
    return Modules(load_file(folder / "model.safetensors"), CONFIG.n_heads)


def test_a_half_is_not_called_a_double(folder, mine):
    """LayerNorm makes x + ½f and 2x + f equal; the sum itself tells them apart."""
    for block in mine.blocks:
        block.plan.residual = lambda x, y, half: x + 0.5 * y
    report = md.check.compare(mine, folder)
    assert report.first_difference == "layer.0.attention_sum"
    assert "residual-doubled" not in report.text()


@pytest.mark.parametrize("layers", [[0], [1], [0, 2], [0, 1, 2, 3]])
@pytest.mark.parametrize(
    "bug", ["gelu-tanh", "scale-missing", "residual-doubled", "head-order:merge"]
)
def test_the_layers_that_have_the_mistake_are_named(bug, layers, tmp_path):
    config = md.DistilBertConfig(**{**vars(CONFIG), "n_layers": 4})
    saved(md.from_config(config), tmp_path)
    module = Modules(load_file(tmp_path / "model.safetensors"), config.n_heads)
    for i in layers:
        block, plan = module.blocks[i], Plan(bug)
        for part in block.modules():
            if hasattr(part, "plan"):
                part.plan = plan
    report = md.check.compare(module, tmp_path)
    assert [d.id for d in report.diagnosis] == [bug.split(":")[0]], report.text()
    assert report.first_difference.startswith(f"layer.{layers[0]}.")
    evidence = report.diagnosis[0].evidence
    having = [f"layer.{i}" for i in layers]
    assert "all others agree" in evidence
    if len(layers) < 4:
        assert f"in {', '.join(having)} alone, not in " in evidence, evidence
        assert all(f"layer.{i}" in evidence.split("not in")[1] for i in {0, 1, 2, 3} - {*layers})
    else:
        assert "alone, not in head" in evidence or "alone" not in evidence


def test_two_mistakes_with_the_same_numbers_are_both_given(tmp_path):
    """With four heads of four channels, √D = √H: scores over √H are right; D = √C."""
    config = md.DistilBertConfig(**{**vars(CONFIG), "dim": 16, "n_heads": 4})
    saved(md.from_config(config), tmp_path)
    module = Modules(load_file(tmp_path / "model.safetensors"), config.n_heads, "scale-twice")
    report = md.check.compare(module, tmp_path)
    assert {d.id for d in report.diagnosis} == {"scale-twice", "scale-wrong-dim"}, report.text()
    assert all("the same numbers follow from" in d.evidence for d in report.diagnosis)


def test_a_second_mistake_is_said(folder, mine):
    for block, bug in zip(mine.blocks, ("gelu-tanh", None), strict=True):
        for part in block.modules():
            if hasattr(part, "plan"):
                part.plan = Plan(bug)
    mine.blocks[1].plan = plan = Plan()
    plan.residual = lambda x, y, half: x + 1.5 * y
    mine.plan = Plan()
    report = md.check.compare(mine, folder)
    assert [d.id for d in report.diagnosis] == ["gelu-tanh"], report.text()
    assert "still differ, the first layer.1.attention_sum" in report.diagnosis[0].evidence
