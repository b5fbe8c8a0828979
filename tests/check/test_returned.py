"""What a module returns is compared, not only what it computes: every output has its own row."""

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
from small import BERT, CONFIG, saved_each  # noqa: E402

from minidistil.check.peers import transformers_model  # noqa: E402

pytestmark = pytest.mark.usefixtures("calm")
MODELS = {
    "words": (CONFIG, "fill-mask"),
    "classifier": (CONFIG.with_labels(3), "text-classification"),
    "tokens": (BERT, "token-classification"),
    "body": (CONFIG, "feature-extraction"),
    "bert-body": (BERT, "feature-extraction"),
    "answers": (CONFIG, "question-answering"),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    return saved_each(MODELS, tmp_path_factory.mktemp("models"))


class Changed(torch.nn.Module):
    """A right model whose output is changed at the very end."""

    def __init__(self, inner, change):
        super().__init__()
        self.inner, self.change = inner, change

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        given = {} if token_type_ids is None else {"token_type_ids": token_type_ids}
        return self.change(self.inner(input_ids, attention_mask=attention_mask, **given))


CHANGES = {
    "half": (lambda z: z / 2, "constant-factor", "0.5000 × the right one"),
    "log-softmax": (lambda z: z.log_softmax(-1), "log-softmax", "ln Σ eˣ"),
    "probabilities": (lambda z: z.softmax(-1), "probabilities", "softmax"),
    "sigmoid": (lambda z: z.sigmoid(), "probabilities", "sigmoid"),
    "capped": (lambda z: z.clamp(-0.1, 0.1), "capped", "cut off at"),
    "soft cap": (lambda z: 2 * torch.tanh(z / 2), "capped", "±2 by tanh"),
    "negated": (lambda z: -z, "negated", "opposite sign"),
    "reversed": (lambda z: z.flip(-1), "permuted", "reversed"),
    "affine": (lambda z: 1.01 * z + 3, "constant-factor", "1.01 × the right one + 3"),
    "shifted": (lambda z: z + 0.25, "constant-offset", "+ 0.25"),
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("task", ["words", "classifier", "tokens"])
def test_logits_that_are_right_inside_and_returned_otherwise(change, task, folders):
    f, named, says = CHANGES[change]
    module = Changed(transformers_model(folders[task]), lambda out: f(out.logits))
    report = md.check.compare(module, folders[task])
    assert (report.verdict, report.first_difference) == ("differ", "returned.logits"), change
    assert [d.id for d in report.diagnosis] == [named], report.text()
    assert says in report.diagnosis[0].message and "as output" in report.where
    assert all(row.agrees for row in report.rows if row.kind == "forward")


def test_hidden_states_that_are_returned_otherwise(folders):
    module = transformers_model(folders["body"])
    for f, named in ((lambda h: 1.01 * h + 3, "constant-factor"),
                     (lambda h: h / h.norm(dim=-1, keepdim=True), "length-normalised"),
                     (lambda h: h.roll(1, -1), "permuted")):  # fmt: skip
        changed = Changed(module, lambda out, f=f: f(out.last_hidden_state))
        report = md.check.compare(changed, folders["body"])
        assert report.first_difference == "returned.layer.1.output"
        assert named in [d.id for d in report.diagnosis], report.text()


def test_what_is_computed_and_not_returned_does_not_count(folders):
    module = transformers_model(folders["classifier"])
    unused = Changed(module, lambda out: out.logits + torch.sin(out.logits))
    report = md.check.compare(unused, folders["classifier"])
    assert (report.verdict, report.code) == ("differ", 1)
    assert report.diagnosis == [] and "every quantity inside agrees" in report.text()
    for change in (lambda out: out.logits.argmax(-1), lambda out: out.logits[:, :2], lambda out: 3):
        report = md.check.compare(Changed(module, change), folders["classifier"])
        assert (report.verdict, report.code) == ("cannot-compare", 2), report.text()
        assert "the task returns logits (" in report.reason


def test_outputs_beside_the_right_one(folders):
    module = transformers_model(folders["bert-body"])
    everything = Changed(module, lambda out: {"h": out.last_hidden_state, "p": out.pooler_output})
    report = md.check.compare(everything, folders["bert-body"])
    assert [row.name for row in report.rows if row.kind == "output"] == [
        "returned.layer.1.output", "returned.pooled"
    ] and report.code == 0  # fmt: skip
    linear = Changed(module, lambda out: {"h": out.last_hidden_state, "p": out.pooler_output * 2})
    report = md.check.compare(linear, folders["bert-body"])
    assert report.first_difference == "returned.pooled"

    class States(torch.nn.Module):
        def __init__(self, backwards):
            super().__init__()
            self.inner, self.backwards = module, backwards

        def forward(self, input_ids, attention_mask, token_type_ids):
            out = self.inner(input_ids, attention_mask=attention_mask,
                             token_type_ids=token_type_ids, output_hidden_states=True,
                             output_attentions=True)  # fmt: skip
            states = out.hidden_states[::-1] if self.backwards else out.hidden_states
            return {"last": out.last_hidden_state, "states": states, "weights": out.attentions}

    assert md.check.compare(States(False), folders["bert-body"]).code == 0
    report = md.check.compare(States(True), folders["bert-body"])
    assert report.first_difference == "returned.embeddings", report.text()
    assert [d.id for d in report.diagnosis] == ["another-quantity-returned"]


def test_the_ends_of_an_answer_in_their_order(folders):
    module = transformers_model(folders["answers"])
    for order, ids in (((0, 1), []), ((1, 0), ["span-ends-swapped"])):
        pairs = Changed(module, lambda out, o=order: tuple(
            (out.start_logits, out.end_logits)[i] for i in o))  # fmt: skip
        assert [d.id for d in md.check.compare(pairs, folders["answers"]).diagnosis] == ids
    both = Changed(module, lambda out: torch.stack([out.start_logits, out.end_logits], -1))
    report = md.check.compare(both, folders["answers"])
    assert report.code == 0 and any(row.kind == "gradient" for row in report.rows), report.text()
