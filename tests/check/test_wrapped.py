"""Modules in wrappers, on fast paths and with unusual signatures are compared, and NaN is named."""

import types

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from implementations import Modules  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG, saved  # noqa: E402
from test_compare import Encoder  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture
def mine(folder):
    return Modules(load_file(folder / "model.safetensors"), CONFIG.n_heads)


class Wrapped(torch.nn.Module):
    """A module whose forward has another signature, or whose output is another object."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner


class Anything(Wrapped):
    def forward(self, *args, **kwargs):
        return self.inner(*args, **kwargs)


class Positional(Wrapped):
    def forward(self, *args):
        return self.inner(*args)


class OneDict(Wrapped):
    def forward(self, batch):
        return self.inner(batch["input_ids"], batch["attention_mask"])


class Slots:
    __slots__ = ("logits", "more")

    def __init__(self, logits):
        self.logits = logits


class Objects(Wrapped):
    kind = types.SimpleNamespace

    def forward(self, input_ids, attention_mask):
        return self.kind(logits=self.inner(input_ids, attention_mask)["logits"])


class SlotObjects(Objects):
    kind = Slots


@pytest.mark.parametrize("kind", [Anything, Positional, OneDict, Objects, SlotObjects])
def test_a_mistake_behind_a_signature_is_named(kind, folder):
    wrong = Modules(load_file(folder / "model.safetensors"), CONFIG.n_heads, "gelu-tanh")
    assert [d.id for d in md.check.compare(kind(wrong), folder).diagnosis] == ["gelu-tanh"]


def test_parts_that_are_compiled_show_their_quantities(folder, mine):
    for block in mine.blocks:
        block.compile(backend="eager")
        block.feed_forward = torch.compile(block.feed_forward, backend="eager")
    report = md.check.compare(mine, folder)
    assert report.code == 0 and any("activation" in row.name for row in report.rows)


@pytest.mark.parametrize("frozen", [False, True])
def test_a_default_encoder_has_no_fast_path_here(frozen, tmp_path):
    config = md.DistilBertConfig(**{**vars(CONFIG), "n_heads": 2})
    saved(md.from_config(config), tmp_path)
    module = Encoder(load_file(tmp_path / "model.safetensors"), n_heads=2)
    assert module.layers.use_nested_tensor
    report = md.check.compare(module.requires_grad_(not frozen), tmp_path)
    assert report.code == 0 and any(row.name == "layer.1.lin1" for row in report.rows)
    assert torch.backends.mha.get_fastpath_enabled()


class Square(Modules):
    """Masks queries, too: a padded query has no key, and its weights are 0/0."""

    def forward(self, input_ids, attention_mask):
        m = attention_mask[:, None, :, None] * attention_mask[:, None, None, :]
        for block in self.blocks:
            block.plan.weights = lambda s, mask, right: (s + (1 - m.to(s.dtype)) * -1e9).softmax(-1)
        return super().forward(input_ids, attention_mask)


def test_nan_is_named(folder):
    state = load_file(folder / "model.safetensors")
    assert md.check.compare(Square(state, CONFIG.n_heads), folder).code == 0
    report = md.check.compare(Square(state, CONFIG.n_heads).half(), folder)
    assert [d.id for d in report.diagnosis] == ["not-finite"], report.text()
    first, _ = report.diagnosis[0].message.split(".\n")
    assert first.startswith("NaN from layer.0.probs on: -1e+09 overflows float16; then softmax")
    assert report.code == 1 and "test_wrapped.py" in report.where
