"""Extractive summaries: a logit a sentence and its binary cross entropy, as PyTorch computes them,
and soft targets that are heard where sentences begin and nowhere else."""

import json

import numpy as np
import pytest
from model_cases import exact

import minidistil as md
from minidistil.model.heads import CHOSEN, EXTRACT
from minidistil.testing import check_backward, rms

CLS, SIZES = 5, {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
                 "intermediate_size": 32, "max_position_embeddings": 24}  # fmt: skip


def setting(seed=0, config=md.BertConfig, **more):
    """A model in float64 none of whose numbers is 0 or 1, and documents of 3, 1 and 2 sentences."""
    rng = np.random.default_rng(seed)
    model = md.from_config(config(vocab_size=40, **more), EXTRACT)
    model.update({n: p + rng.normal(0, 0.2, p.shape) for n, p in model.params.items()})
    model = exact(model)
    ids, mask = rng.integers(6, 40, (3, 20)), np.ones((3, 20), int)
    for row, starts, end in ((0, (0, 7, 12), 20), (1, (0,), 9), (2, (0, 4), 15)):
        ids[row, list(starts)] = CLS
        mask[row, end:] = 0
    ids[1, 12] = CLS  # in the padding, where nothing begins
    starts = (ids == CLS) & (mask == 1)
    labels = np.where(starts, rng.integers(0, 2, ids.shape), -100)
    types = (np.cumsum(starts, axis=1) + 1) % 2
    batch = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types * mask}
    return model, batch, labels, starts


def test_logits_and_gradients_are_pytorchs():
    """σ(z₁ − z₀) is the softmax of two: transformers' BertForTokenClassification with PyTorch's
    binary cross entropy on one logit a sentence, the difference."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, batch, labels, starts = setting(**SIZES)
    fields = model.config.to_dict() | {"attn_implementation": "eager"}
    theirs = transformers.BertForTokenClassification(transformers.BertConfig(**fields)).double()
    theirs.load_state_dict({n: torch.tensor(p) for n, p in model.params.items()}, strict=True)
    theirs.eval()
    z = theirs(**{n: torch.tensor(x) for n, x in batch.items()}).logits
    one = (z[..., 1] - z[..., 0])[torch.tensor(starts)]
    right = torch.tensor(labels[starts]).double()
    loss = torch.nn.functional.binary_cross_entropy_with_logits(one, right)
    loss.backward()
    out = model.forward(**batch, labels=labels)
    np.testing.assert_allclose(out.logits[starts], z.detach().numpy()[starts], rtol=1e-9)
    assert out.loss == pytest.approx(loss.item(), rel=1e-12)
    grads = model.backward(out)
    largest = max(rms(g) for g in grads.values())
    for name, parameter in theirs.named_parameters():
        np.testing.assert_allclose(
            grads[name], parameter.grad.numpy(), rtol=1e-7, atol=1e-10 * largest, err_msg=name
        )


@pytest.mark.parametrize(
    "losses", [{"alpha_ce": 1.0}, {"alpha_mse": 1.0}, {"alpha_ce": 0.7, "alpha_hard": 1.0}]
)
def test_soft_targets_are_heard_where_sentences_begin(losses):
    teacher, batch, labels, starts = setting(**SIZES)
    student, *_ = setting(1, **SIZES)
    none = {"alpha_ce": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0}
    config = md.DistillConfig(temperature=3.0, **none | losses)
    given = batch | ({"labels": labels} if "alpha_hard" in losses else {})
    done = md.distill_step(student, teacher, given, config)
    z, t = (m.forward(**batch).logits[starts] for m in (student, teacher))  # (S,2)

    def log_p(x, tau=3.0):
        x = x / tau - (x / tau).max(axis=1, keepdims=True)
        return x - np.log(np.exp(x).sum(axis=1, keepdims=True))

    ce = 9 * np.mean((np.exp(log_p(t)) * (log_p(t) - log_p(z))).sum(axis=1))
    parts = {"ce": ce, "mse": np.sum((z - t) ** 2) / len(z),
             "hard": -np.mean(log_p(z, 1)[np.arange(len(z)), labels[starts]])}  # fmt: skip
    wanted = sum(alpha * parts[name.removeprefix("alpha_")] for name, alpha in losses.items())
    assert done.loss == pytest.approx(wanted, rel=1e-9)
    assert set(done.parts) == {name.removeprefix("alpha_") for name in losses}

    names = list(student.params)

    def forward(*params):
        student.update(dict(zip(names, params, strict=True)))
        step = md.distill_step(student, teacher, given, config)
        return step.loss, step

    def backward(u, step):
        return [u * step.grads[name] for name in names]

    args = list(student.params.values())
    check_backward(forward, backward, args, np.random.default_rng(0), tol=1e-6)


@pytest.mark.parametrize("config", [md.BertConfig, md.DistilBertConfig, md.RobertaConfig])
def test_a_folder_says_that_it_summarises(config, tmp_path):
    model = md.from_config(config(vocab_size=40, **sizes(config)), EXTRACT)
    model.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["architectures"][0].endswith("ForTokenClassification")
    assert tuple(saved["id2label"].values()) == CHOSEN
    assert md.from_pretrained(tmp_path).task == EXTRACT
    tagger = md.from_config(config(vocab_size=40, **sizes(config)), "token-classification")
    tagger.save_pretrained(tmp_path / "tagger")
    assert md.from_pretrained(tmp_path / "tagger").task == "token-classification"


def sizes(config):
    if config is md.DistilBertConfig:
        return {"dim": 16, "n_layers": 1, "n_heads": 2, "hidden_dim": 32}
    return SIZES


def test_transformers_loads_the_folder(tmp_path):
    pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    model, *_ = setting(**SIZES)
    model.save_pretrained(tmp_path)
    _, said = transformers.AutoModelForTokenClassification.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not said["missing_keys"] and not said["unexpected_keys"]


def test_a_student_takes_the_head_over():
    teacher, *_ = setting(**SIZES)
    student = md.student_from(teacher, (0,))
    assert student.task == EXTRACT and student.config.id2label == CHOSEN
    np.testing.assert_array_equal(
        student.params["classifier.weight"], teacher.params["classifier.weight"]
    )
