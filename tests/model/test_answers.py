"""Heads that classify tokens, spans and choices: what the door shows, takes and refuses."""

import numpy as np
import pytest
from model_cases import CASES, LARGE, SMALL, batch_of, exact, fields, model_of, torch_inputs
from model_cases import torch_model as peer

import minidistil as md
from minidistil.model import task_loss
from minidistil.model.heads import architecture_name

TOKENS, SPANS, CHOICE = "bert-tokens", "distilbert-spans", "bert-choice"


def setting(name, size=SMALL):
    return model_of(CASES[name], size), batch_of(CASES[name], size)


def body(batch):
    return {name: x for name, x in batch.items() if name not in task_loss.LABELS}


@pytest.mark.parametrize("name", ["bert-spans", "distilbert-spans"])
def test_without_padding_the_loss_of_spans_is_transformers_own(name):
    torch = pytest.importorskip("torch")
    pytest.importorskip("transformers")
    model, batch = setting(name, LARGE)
    batch["attention_mask"][:] = 1
    theirs = peer(model, fields(CASES[name], LARGE), "float64")
    with torch.no_grad():
        loss = theirs(**torch_inputs(batch, "float64")).loss.item()
    assert exact(model).forward(**batch).loss == pytest.approx(loss, rel=1e-12)


def test_a_position_beyond_the_text_has_no_loss():
    model, batch = setting(SPANS)
    T = batch["input_ids"].shape[1]
    some = batch | {"start_positions": np.array([1, T, T + 1, 0]), "end_positions": np.arange(4)}
    some["attention_mask"] = np.ones_like(batch["attention_mask"])
    out = model.forward(**some)
    z = out.start_logits[[0, 3]].astype(np.float64)
    start = np.mean(np.log(np.exp(z).sum(1)) - z[[0, 1], [1, 0]])
    z = out.end_logits.astype(np.float64)
    end = np.mean(np.log(np.exp(z).sum(1)) - z[np.arange(4), np.arange(4)])
    assert out.loss == pytest.approx((start + end) / 2, rel=1e-5)
    negative = some | {"start_positions": np.array([1, T, T + 1, -5])}
    assert model.forward(**negative).loss == out.loss


def test_one_span_cotangent_is_enough():
    model, batch = setting(SPANS)
    out = model.forward(**body(batch))
    u = np.random.default_rng(0).normal(size=out.start_logits.shape).astype(np.float32)
    zeros = np.zeros_like(u)
    one = model.backward(out, dstart_logits=u)
    both = model.backward(out, dstart_logits=u, dend_logits=zeros)
    for name, grad in both.items():
        np.testing.assert_array_equal(one[name], grad, err_msg=name)
    assert not one["qa_outputs.weight"][1].any() and one["qa_outputs.weight"][0].any()


@pytest.mark.parametrize("train", [False, True])
def test_questions_do_not_see_each_other(train):
    """first_sequence counts questions, each of which has all its choices."""
    model, batch = setting(CHOICE)
    how = {"train": train, "seed": 3, "step": 4}
    whole = exact(model).forward(**body(batch), first_sequence=10, **how).logits
    for b in range(len(whole)):
        part = {name: x[b : b + 1] for name, x in body(batch).items()}
        mine = exact(model).forward(**part, first_sequence=10 + b, **how).logits
        np.testing.assert_allclose(mine[0], whole[b], atol=1e-12)


def test_a_constant_for_all_choices_changes_nothing():
    model, batch = setting(CHOICE)
    model = exact(model)
    bias = model.params["classifier.bias"]
    before = model.forward(**batch)
    model.update({"classifier.bias": bias + 3})
    after = model.forward(**batch)
    np.testing.assert_allclose(after.logits, before.logits + 3)
    assert after.loss == pytest.approx(before.loss, rel=1e-12)


BAD = [
    (SPANS, {"start_positions": [0, 6, 0, 0]}, "column 6, which attention_mask hides"),
    (SPANS, {"start_positions": [99, 99, 99, 99]}, "no answer to learn"),
    (SPANS, {"start_positions": [[0, 0]]}, "must be 4 integers"),
    (SPANS, {"start_positions": None}, "start_positions and end_positions"),
    (SPANS, {"labels": [0, 0, 0, 0]}, "start_positions and end_positions"),
    (TOKENS, {"labels": np.full((4, 9), -100)}, "all 18 labels"),
    (TOKENS, {"labels": np.full((4, 9), 5)}, "lies on padding"),
    (TOKENS, {"labels": [0, 1, 2, 3]}, r"\(B,T\)"),
    (CHOICE, {"labels": [0, 2]}, "outside the 2 choices"),
    (CHOICE, {"labels": [0]}, "2 integers"),
    (CHOICE, {"input_ids": np.ones((4, 9), int)}, r"\(B,choices,T\)"),
    (CHOICE, {"attention_mask": np.ones((4, 9), int)}, "shape of input_ids"),
]


@pytest.mark.parametrize(("name", "change", "message"), BAD)
def test_what_does_not_fit_is_refused(name, change, message):
    model, batch = setting(name)
    change = {key: x if x is None else np.asarray(x) for key, x in change.items()}
    with pytest.raises(ValueError, match=message):
        model.forward(**batch | change)


def test_a_label_of_no_class_is_refused():
    model, batch = setting(TOKENS)
    batch["labels"][0, 0] = 5
    with pytest.raises(ValueError, match="label 5 is outside the labels of 5"):
        model.forward(**batch)


@pytest.mark.parametrize("name", [TOKENS, SPANS, CHOICE])
def test_a_wrong_cotangent_is_refused(name):
    model, batch = setting(name)
    out = model.forward(**batch)
    with pytest.raises(ValueError, match="must be"):
        model.backward(out, **{"dstart_logits" if name == SPANS else "dlogits": np.ones((4, 8))})
    with pytest.raises(ValueError, match="no such output"):
        model.backward(out, **{"dlogits" if name == SPANS else "dend_logits": np.ones((4, 9))})


@pytest.mark.parametrize(
    ("task", "outputs"),
    [("token-classification", 3), ("question-answering", 2), ("multiple-choice", 1)],
)
@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta"])
def test_another_task_starts_its_own_head(tmp_path, family, task, outputs):
    """From a classifier of three classes: the head that fits is kept, another starts anew."""
    model = model_of(CASES[f"{family}-single"]._replace(extra={"labels": 3}), SMALL)
    model.save_pretrained(tmp_path / "classifier")
    with pytest.warns(UserWarning, match="initialised|does not use") as said:
        other = md.from_pretrained(tmp_path / "classifier", task=task)
    assert said
    last = "qa_outputs" if task == "question-answering" else "classifier"
    assert other.params[f"{last}.weight"].shape == (outputs, SMALL["C"])
    other.save_pretrained(tmp_path / "other")
    again = md.from_pretrained(tmp_path / "other")
    assert again.task == task
    for name, p in other.params.items():
        np.testing.assert_array_equal(again.params[name], p, err_msg=name)


@pytest.mark.parametrize("name", [n for n in CASES if n.endswith(("tokens", "spans", "choice"))])
def test_transformers_loads_what_we_save(tmp_path, name):
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("torch")
    model = model_of(CASES[name], SMALL)
    model.save_pretrained(tmp_path)
    kind = getattr(transformers, architecture_name(model.config, model.task))
    _, info = kind.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
