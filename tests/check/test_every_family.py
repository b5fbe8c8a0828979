"""GPT-2, ViT and encoder–decoders in modules of their own: none that is right is accused, every
planted mistake is found, and most are named."""

import json
import warnings

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
import own_gpt2  # noqa: E402
import own_seq2seq  # noqa: E402
import own_vit  # noqa: E402
from safetensors.torch import load_file  # noqa: E402
from small import CONFIG, DEIT, GPT2, PAIR, PROJECTED, VIT, saved  # noqa: E402

from minidistil.check.reference_batch import load  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")
NAMED = 0.8
AS_IS = {
    "as it is": lambda module: module,
    "half": lambda module: module.half(),
    "bfloat16": lambda module: module.bfloat16(),
    "frozen": lambda module: module.requires_grad_(False),
}


def with_more(module):
    module.extra = torch.nn.Linear(5, 7)
    module.register_buffer("scale", torch.ones(3))
    return module


WRAPPED = {
    "compiled": lambda module: torch.compile(module, backend="eager"),
    "parallel": torch.nn.DataParallel, "training mode": lambda module: module.train(),
    "more parameters": with_more, "double": lambda module: module.double(),
    "half of it frozen": lambda module: next(module.children()).requires_grad_(False) and module,
}  # fmt: skip


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory):
    return saved(md.from_config(GPT2), tmp_path_factory.mktemp("gpt2"))


def weights(folder):
    return load_file(folder / "model.safetensors")


def assert_not_accused(module, folder):
    report = md.check.compare(module, folder)
    assert (report.verdict, report.diagnosis) == ("agree", []), report.text()
    trained = any(p.requires_grad for p in module.parameters())
    assert ("gradient" in {row.kind for row in report.rows}) == trained


def assert_found(bugs, build, folder):
    """Every bug is found, and most of those in the catalogue are named; none gets another name."""
    named, known = 0, 0
    for bug, id in bugs.items():
        report = md.check.compare(build(bug), folder)
        assert report.verdict == "differ" and report.first_difference, bug
        ids = [d.id for d in report.diagnosis]
        named, known = named + (ids == [id]), known + (id is not None)
        assert ids == [id] or not ids or id is None, (bug, ids)
    assert named >= NAMED * known


# ------------------------------------------------------- GPT-2


@pytest.mark.parametrize("kind", [own_gpt2.Speaker, own_gpt2.Unpadded])
@pytest.mark.parametrize("style", ["fused", "separate", "conv1d", "sdpa"])
def test_a_correct_gpt2(style, kind, gpt2):
    for change in AS_IS.values():
        assert_not_accused(change(kind(weights(gpt2), GPT2.n_head, style)), gpt2)


@pytest.mark.parametrize("change", WRAPPED)
def test_correct_modules_in_wrappers(change, gpt2, pair, images):
    for module, folder in (
        (own_gpt2.Speaker(weights(gpt2), GPT2.n_head), gpt2),
        (own_seq2seq.Translator(weights(pair), 3, ENDS), pair),
        (own_vit.Looker(weights(images["vit"]), 3), images["vit"]),
    ):
        assert_not_accused(WRAPPED[change](module), folder)


def test_transformers_gpt2(gpt2):
    pytest.importorskip("transformers")
    from minidistil.check.peers import transformers_model

    report = md.check.compare(transformers_model(gpt2), gpt2)
    assert report.verdict == "agree", report.text()
    assert not report.unmatched and "loss" in {row.name for row in report.rows}


def test_mistakes_in_gpt2(gpt2):
    def build(bug):
        return own_gpt2.Speaker(weights(gpt2), GPT2.n_head, "fused", bug)

    assert_found(own_gpt2.BUGS, build, gpt2)


def test_targets_are_shifted_already(gpt2):
    class Twice(own_gpt2.Speaker):
        def forward(self, idx, targets):
            return super().forward(idx, labels=targets)

    report = md.check.compare(Twice(weights(gpt2), GPT2.n_head), gpt2)
    assert [d.id for d in report.diagnosis] == ["label-shift-doubled"], report.text()


# ------------------------------------------------------- encoder–decoders


ENDS = (PAIR.pad_token_id, PAIR.decoder_start_token_id, PAIR.eos_token_id)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    return saved(md.from_config(PAIR, task="translation"), tmp_path_factory.mktemp("pair"))


@pytest.mark.parametrize("kind", [own_seq2seq.Translator, own_seq2seq.Forced])
@pytest.mark.parametrize("fused", [False, True])
def test_a_correct_encoder_decoder(fused, kind, pair):
    for change in AS_IS.values():
        assert_not_accused(change(kind(weights(pair), 3, ENDS, fused)), pair)


@pytest.mark.parametrize("config", [PAIR, PROJECTED])
def test_transformers_encoder_decoder(config, tmp_path):
    pytest.importorskip("transformers")
    from minidistil.check.peers import transformers_model

    folder = saved(md.from_config(config, task="translation"), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        report = md.check.compare(transformers_model(folder), folder)
    assert report.verdict == "agree", report.text()
    assert "loss" in {row.name for row in report.rows}


def test_mistakes_in_an_encoder_decoder(pair):
    def build(bug):
        return own_seq2seq.Translator(weights(pair), 3, ENDS, bug=bug)

    assert_found(own_seq2seq.BUGS, build, pair)


# ------------------------------------------------------- images


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    home, task = tmp_path_factory.mktemp("images"), "image-classification"
    return {
        name: saved(md.from_config(config, task=task), home / name)
        for name, config in (("vit", VIT), ("deit", DEIT))
    }


@pytest.mark.parametrize("family", ["vit", "deit"])
@pytest.mark.parametrize("cut", ["conv", "unfold", "reshape"])
def test_a_correct_vit(cut, family, images):
    folder = images[family]
    for change in AS_IS.values():
        assert_not_accused(change(own_vit.Looker(weights(folder), 3, cut)), folder)


@pytest.mark.parametrize("family", ["vit", "deit"])
def test_transformers_vit(family, images):
    pytest.importorskip("transformers")
    from minidistil.check.peers import transformers_model

    report = md.check.compare(transformers_model(images[family]), images[family])
    assert (report.verdict, report.unmatched) == ("agree", []), report.text()


class TwoHeads(own_vit.Looker):
    """A DeiT in training: both heads, and not their mean."""

    give = staticmethod(lambda cls, distillation: (cls, distillation))

    def answer(self, answers):
        return self.give(*answers)


RIGHT_HEADS = {
    "both": lambda a, b: (a, b), "both by name": lambda a, b: {"dist": b, "cls": a},
    "both and the mean": lambda a, b: (a, b, (a + b) / 2), "the mean, then both":
    lambda a, b: {"logits": (a + b) / 2, "cls_logits": a, "distillation_logits": b},
    "the mean and one": lambda a, b: ((a + b) / 2, a), "the mean": lambda a, b: 0.5 * (a + b),
}  # fmt: skip
WRONG_HEADS = {
    "swapped": lambda a, b: (b, a), "one twice": lambda a, b: (a, a),
    "one halved": lambda a, b: (a, b / 2), "one alone": lambda a, b: a,
    "one alone by name": lambda a, b: {"cls_logits": a},
    "one without gradient": lambda a, b: (a.detach(), b),
}  # fmt: skip


@pytest.mark.parametrize("give", [*RIGHT_HEADS, *WRONG_HEADS])
def test_the_heads_of_a_deit(give, images):
    module = TwoHeads(weights(images["deit"]), 3)
    module.give = (RIGHT_HEADS | WRONG_HEADS)[give]
    report = md.check.compare(module, images["deit"])
    assert report.code == (give in WRONG_HEADS), report.text()
    assert give in WRONG_HEADS or "gradient" in {row.kind for row in report.rows}


@pytest.mark.parametrize(("family", "bugs"), [("vit", "BUGS"), ("deit", "DEIT_BUGS")])
def test_mistakes_in_a_vit(family, bugs, images):
    def build(bug):
        return own_vit.Looker(weights(images[family]), 3, bug=bug)

    assert_found(getattr(own_vit, bugs), build, images[family])


class RightOnce(own_vit.Looker):
    """Right on the first batch that it is given, and twice the logits on others."""

    first = None

    def forward(self, pixel_values):
        total = float(pixel_values.sum())
        self.first = self.first or total
        return super().forward(pixel_values) * (1 if abs(total - self.first) < 1e-3 else 2)


def test_the_second_batch_is_one_of_images(images):
    report = md.check.compare(RightOnce(weights(images["vit"]), 3), images["vit"])
    assert report.code == 1 and "  on other random images; another batch agrees" in report.text()


# ------------------------------------------------------- sentence embeddings


POOLINGS = {
    "mean": (lambda h, m: (h * m).sum(1) / m.sum(1), []),
    "einsum": (lambda h, m: torch.einsum("btc,btk->bc", h, m / m.sum(1, keepdim=True)), []),
    "padding": (lambda h, m: h.mean(1), ["mean-over-padding"]),
    "cls": (lambda h, m: h[:, 0], ["embedding-pooling"]),
    "largest": (lambda h, m: h.masked_fill(m == 0, -1e9).amax(1), ["embedding-pooled-otherwise"]),
    "last": (lambda h, m: h[range(len(h)), m[..., 0].sum(1).long() - 1],
             ["embedding-pooled-otherwise"]),
}  # fmt: skip


class Sentences(torch.nn.Module):
    """A text's vector as sentence embeddings are written by hand."""

    def __init__(self, body, pool, normalised):
        super().__init__()
        self.body, self.pool, self.normalised = body, pool, normalised

    def forward(self, input_ids, attention_mask):
        h = self.body(input_ids, attention_mask=attention_mask).last_hidden_state
        v = self.pool(h, attention_mask[:, :, None].to(h.dtype))
        return v / v.norm(dim=1, keepdim=True) if self.normalised else v


def test_sentence_embeddings(tmp_path):
    pytest.importorskip("transformers")
    from minidistil.check.peers import transformers_model

    folder = saved(md.from_config(CONFIG, task="feature-extraction"), tmp_path)
    body = transformers_model(folder)
    for name, (pool, ids) in POOLINGS.items():
        module = Sentences(body, pool, True)
        report = md.check.compare(module, folder, task="sentence-embedding")
        assert [d.id for d in report.diagnosis] == ids, (name, report.text())
    module = Sentences(body, POOLINGS["mean"][0], False)
    report = md.check.compare(module, folder, task="sentence-embedding")
    assert [d.id for d in report.diagnosis] == ["embedding-length"], report.text()


# ------------------------------------------------------- families without a reference


def test_a_refusal_names_the_families(tmp_path):
    config = {"model_type": "electra", "architectures": ["ElectraForMaskedLM"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"bert, distilbert, roberta, albert, gpt2, .*'electra'"):
        md.check.compare(torch.nn.Identity(), tmp_path)
    with pytest.raises(ValueError, match=r"bert, distilbert, roberta, albert, gpt2, .*'electra'"):
        load(tmp_path)
