"""What no known mistake explains is named by a generic search, with its evidence."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from mutations import loaded  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG  # noqa: E402
from test_mutations import SOURCES  # noqa: E402

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.filterwarnings("ignore")]
CHANGES = {  # what is written, what is written instead, what the diagnosis says
    "half a residual": ("self.norm(x + y)", "self.norm(x + 0.5 * y)", "0.5·f(x)"),
    "temperature": ("torch.softmax(scores, dim=2)", "torch.softmax(1.5 * scores, dim=2)", "1.5"),
    "another function": (
        "0.5 * z * (1 + torch.erf(z / math.sqrt(2)))", "F.softplus(z)", "softplus",
    ),
    "a constant": ("0.5 * z * (1", "0.5 * z * (2", "2 + erf"),
    "squares": ("mean * mean", "mean * 0", "power"),
    "wrong norm": ("z = self.last_norm(z)", "z = self.first(z)", "distilbert.embeddings.LayerNorm"),
    "positions scaled": ("self.places[: len", "0.1 * self.places[: len", "0.1·position[column]"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_generic_search_names_it(change, folder):
    old, new, says = CHANGES[change]
    source = SOURCES["own_sequence_first"]
    assert source.count(old) >= 1
    module = loaded(source.replace(old, new)).build(
        load_file(folder / "model.safetensors"), CONFIG.n_heads
    )
    report = md.check.compare(module, folder)
    assert report.code == 1 and report.diagnosis, report.text()
    assert says in report.diagnosis[0].message, report.text()
    assert "in every entry to" in report.diagnosis[0].evidence


OTHERS = {  # of nn.TransformerEncoder's module
    "a norm for a linear layer": ("self.dense(x)", "self.dense_norm(x)", "vocab_layer_norm"),
    "a linear layer for a norm": ("self.dense_norm(h)", "self.dense(h)", "vocab_transform"),
    "left out": ("self.dense(x)", "x", "linear layer is left out"),
    "words for positions": ("self.places(columns)", "self.tokens(columns)", "word_embeddings"),
}  # fmt: skip


@pytest.mark.parametrize("change", OTHERS)
def test_another_layer_is_named(change, folder):
    old, new, says = OTHERS[change]
    source = SOURCES["own_torch"]
    assert old in source
    state = load_file(folder / "model.safetensors")
    report = md.check.compare(loaded(source.replace(old, new)).build(state, CONFIG.n_heads), folder)
    assert report.code == 1 and report.diagnosis, report.text()
    assert says in report.diagnosis[0].message, report.text()


def test_what_is_right_in_part_is_said(folder):
    """Three channels come from other weights, which no relation explains; the rest are right."""
    state = load_file(folder / "model.safetensors")
    module = loaded(SOURCES["own_torch"]).build(state, CONFIG.n_heads)
    module.dense.weight.data[:3] += 0.1 * torch.sin(50 * module.dense.weight.data[:3])
    report = md.check.compare(module, folder)
    assert report.code == 1 and not report.diagnosis, report.text()
    assert "right but in 3 of 12 channels: 0, 1, 2" in report.evidence
