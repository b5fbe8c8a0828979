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
