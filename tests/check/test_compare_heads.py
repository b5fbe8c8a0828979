"""`compare` on heads that read tokens, choose among texts, or make one vector of a text."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from small import ALBERT, BERT, CONFIG, ROBERTA, saved, saved_each  # noqa: E402

from minidistil.check.peers import transformers_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")
MODELS = {
    "bert-tokens": (BERT, "token-classification"),
    "bert-choice": (BERT, "multiple-choice"),
    "distilbert-answers": (CONFIG, "question-answering"),
    "distilbert-tokens": (CONFIG.with_labels(3), "token-classification"),
    "distilbert-body": (CONFIG, "feature-extraction"),
    "bert-body": (BERT, "feature-extraction"),
    "albert-pretraining": (ALBERT.with_labels(2), "pretraining"),
    "albert-classifier": (ALBERT, "text-classification"),
    "albert-answers": (ALBERT, "question-answering"),
    "roberta-words": (ROBERTA, "fill-mask"),
    "roberta-classifier": (ROBERTA, "text-classification"),
    "roberta-tokens": (ROBERTA, "token-classification"),
    "roberta-choice": (ROBERTA, "multiple-choice"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved_each(MODELS, tmp_path_factory.mktemp("models"))


@pytest.mark.parametrize("name", MODELS)
def test_transformers_is_not_accused(name, folders):
    report = md.check.compare(transformers_model(folders[name]), folders[name])
    assert (report.verdict, report.diagnosis) == ("agree", []), report.text()
    assert not [x for x in report.unmatched if x.startswith("quantity")]
    assert any(row.kind == "gradient" for row in report.rows)


class Columns(torch.nn.Module):
    """A RoBERTa that counts positions from 0, as BERT does."""

    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def forward(self, input_ids, attention_mask):
        columns = torch.arange(input_ids.shape[1]).expand(input_ids.shape)
        return self.inner(input_ids, attention_mask=attention_mask, position_ids=columns)


def test_what_robertas_are_accused_of(folders):
    module = transformers_model(folders["roberta-words"])
    report = md.check.compare(Columns(module), folders["roberta-words"])
    assert [d.id for d in report.diagnosis] == ["position-offset"], report.text()
    for norm in (m for m in module.modules() if isinstance(m, torch.nn.LayerNorm)):
        norm.eps = 1e-12
    report = md.check.compare(module, folders["roberta-words"])
    assert [d.id for d in report.diagnosis] == ["layernorm-eps"], report.text()


def test_what_alberts_are_accused_of(tmp_path):
    saved(md.from_config(ALBERT, task="fill-mask"), tmp_path)
    module = transformers_model(tmp_path)
    groups = module.albert.encoder.albert_layer_groups
    groups[1] = groups[0]
    report = md.check.compare(module, tmp_path)
    assert [d.id for d in report.diagnosis] == ["wrong-layers-copied"], report.text()
    assert report.first_difference == "layer.2.q"  # the turn that is the second group's
    module = transformers_model(tmp_path)
    module.albert.encoder.embedding_hidden_mapping_in.bias.data.zero_()
    report = md.check.compare(module, tmp_path)
    assert [d.id for d in report.diagnosis] == ["bias-missing"], report.text()
    assert report.first_difference == "embeddings_mapping"


@pytest.mark.parametrize(("swapped", "ids"), [(False, []), (True, ["span-ends-swapped"])])
def test_where_an_answer_starts_and_ends(swapped, ids, folders):
    """Slices of one array, as most people write them."""
    inner = transformers_model(folders["distilbert-answers"])

    class Answers(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, input_ids, attention_mask):
            h = self.inner.distilbert(input_ids, attention_mask=attention_mask).last_hidden_state
            z = self.inner.qa_outputs(h)
            start, end = (z[..., 1], z[..., 0]) if swapped else (z[..., 0], z[..., 1])
            return {"start": start, "end": end}

    report = md.check.compare(Answers(), folders["distilbert-answers"])
    assert [d.id for d in report.diagnosis] == ids, report.text()
    assert report.first_difference == ("returned.start_logits" if swapped else None)
    if not swapped:
        assert sum(row.kind == "gradient" for row in report.rows) == len(list(inner.parameters()))


class Vectors(torch.nn.Module):
    """A text's vector as sentence embeddings are written by hand."""

    def __init__(self, inner, masked=True, normalized=True, first=False):
        super().__init__()
        self.inner, self.masked, self.normalized, self.first = inner, masked, normalized, first

    def forward(self, input_ids, attention_mask):
        h = self.inner(input_ids, attention_mask=attention_mask).last_hidden_state
        m = attention_mask if self.masked else torch.ones_like(attention_mask)
        m = m[:, :, None].to(h.dtype)
        v = h[:, 0] if self.first else (h * m).sum(1) / m.sum(1)
        return torch.nn.functional.normalize(v, dim=1) if self.normalized else v


@pytest.mark.parametrize(("options", "ids"), [
    ({}, []),
    ({"body": "bert-body"}, []),
    ({"masked": False}, ["mean-over-padding"]),
    ({"normalized": False}, ["embedding-length"]),
    ({"first": True}, ["embedding-pooling"]),
])  # fmt: skip
def test_vectors_of_texts(options, ids, folders):
    options = dict(options)
    folder = folders[options.pop("body", "distilbert-body")]
    module = Vectors(transformers_model(folder), **options)
    report = md.check.compare(module, folder, task="sentence-embedding")
    assert [d.id for d in report.diagnosis] == ids, report.text()
    assert report.verdict == ("differ" if ids else "agree")
    if not ids:
        assert any(row.kind == "gradient" for row in report.rows)
