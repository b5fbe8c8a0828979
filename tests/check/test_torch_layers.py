"""Mistakes with nn.TransformerEncoder, written in its source one at a time, are named."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
from mutations import loaded  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG, saved  # noqa: E402
from test_mutations import SOURCES  # noqa: E402

pytestmark = [pytest.mark.usefixtures("calm"), pytest.mark.filterwarnings("ignore")]
PADDING, RUN, PACKED = "attention_mask == 0", "x = self.encoder(x", '("q", "k", "v")'
FIRST, FLOAT = ("batch_first=True", "batch_first=False"), "attention_mask.to(x.dtype)"
LAYERS = "self.encoder.layers = nn.ModuleList({}); x = self.encoder(x"
NAMED = {  # {mistake: (changes of the source, id, words of the diagnosis)}
    "batch_first": ([FIRST, (PADDING, "(attention_mask == 0).t()")], "batch-first", "transposed"),
    "batch_first without mask": (
        [FIRST, ("(x, src_key_padding_mask=padding)", "(x)")], "batch-first", "without a mask",
    ),
    "inverted": ([(PADDING, "attention_mask == 1")], "mask-inverted", "inverted"),
    "everything": ([(PADDING, "attention_mask >= 0")], "mask-everything", "every key"),
    "1 and 0": ([(PADDING, FLOAT)], "mask-too-weak", "not 1 and 0"),
    "0 and 1": ([(PADDING, f"1 - {FLOAT}")], "mask-float", "adds 1 "),
    "sign": ([(PADDING, f"(1 - {FLOAT}) * 1e9")], "mask-inverted", "wrong sign"),
    "kqv": ([(PACKED, '("k", "q", "v")')], "qk-swapped", ""),
    "vkq": ([(PACKED, '("v", "k", "q")')], "packed-order", "vkq"),
    "qvk": ([(PACKED, '("q", "v", "k")')], "packed-order", "qvk"),
    "kvq": ([(PACKED, '("k", "v", "q")')], "packed-order", "kvq"),
    "vqk": ([(PACKED, '("v", "q", "k")')], "packed-order", "vqk"),
    "final norm": (
        [("depth, enable", "depth, norm=nn.LayerNorm(width), enable")], "extra-norm", "1e-05",
    ),
    "norm_first": ([("norm_first=False", "norm_first=True")], "pre-norm", ""),
    "3 of 4": ([(RUN, LAYERS.format("self.encoder.layers[:3]"))], "layer-missing", "in layer.3"),
    "without the second": (
        [("self.dense =", "del self.encoder.layers[1]; self.dense ="),
         ("enumerate(self.encoder.layers)", "zip((0, 2, 3), self.encoder.layers)")],
        "layer-missing", "in layer.1 alone",
    ),
    "one used twice": (
        [(RUN, "l = self.encoder.layers; " + LAYERS.format("[l[0], l[0], l[2], l[3]]"))],
        "wrong-layers-copied", "another layer: 0",
    ),
}  # fmt: skip


@pytest.fixture(scope="module")
def four(tmp_path_factory):
    config = md.DistilBertConfig(**{**vars(CONFIG), "n_layers": 4})
    return saved(md.from_config(config), tmp_path_factory.mktemp("four"))


def built(changes, folder):
    source = SOURCES["own_torch"]
    for old, new in changes:
        assert old in source
        source = source.replace(old, new)
    return loaded(source).build(load_file(folder / "model.safetensors"), CONFIG.n_heads)


@pytest.mark.parametrize("name", NAMED)
def test_a_mistake_is_named(name, four):
    changes, id, says = NAMED[name]
    report = md.check.compare(built(changes, four), four)
    assert report.code == 1 and [d.id for d in report.diagnosis] == [id], report.text()
    assert says in report.text()


def test_a_mask_in_another_layout_says_batch_first(four):
    report = md.check.compare(built([FIRST], four), four)
    assert report.code == 2 and "batch_first=True" in report.reason
