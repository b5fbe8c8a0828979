"""Distillation losses as people write them in PyTorch, right and with every mistake planted."""

import math

import pytest

import minidistil as md

torch = pytest.importorskip("torch")
import torch.nn.functional as F  # noqa: E402
from small import CONFIG, saved  # noqa: E402

KL = {
    "kl-arguments-swapped": lambda s, t, T: F.kl_div(
        F.log_softmax(t / T, -1), F.softmax(s / T, -1), reduction="batchmean") * T * T,
    "kl-tau-squared-missing": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean"),
    "kl-tau-once": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean") * T,
    "kl-tau-one-side": lambda s, t, T: F.kl_div(
        F.log_softmax(s, -1), F.softmax(t / T, -1), reduction="batchmean") * T * T,
    "kl-tau-one-side:student": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t, -1), reduction="batchmean") * T * T,
    "kl-reduction-mean": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="mean") * T * T,
    "kl-reduction-sum": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="sum") * T * T,
    "kl-log-twice": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.log_softmax(t / T, -1), reduction="batchmean") * T * T,
    "kl-log-twice:target": lambda s, t, T: F.kl_div(
        F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean",
        log_target=True) * T * T,
    "kl-log-twice:probabilities": lambda s, t, T: F.kl_div(
        F.softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean") * T * T,
}  # fmt: skip


def right_kl(s, t, T):
    p, q = F.log_softmax(s / T, -1), F.log_softmax(t / T, -1)
    return (q.exp() * (q - p)).sum(-1).mean() * T**2


def right_ce(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten())


def right_cos(s, t):
    return (1 - F.cosine_similarity(s, t, dim=-1)).mean()


def make(kl=right_kl, ce=right_ce, cos=right_cos, kl_mask=True, cos_mask=True, total=True):
    """A whole loss; kl_mask and cos_mask: whether the padding is left out."""

    def distillation_loss(student_logits, teacher_logits, labels, attention_mask, student_hidden,
                          teacher_hidden, temperature, alpha_ce, alpha_mlm, alpha_cos):  # fmt: skip
        real = attention_mask.bool()
        every = torch.ones_like(real)
        m, n = (real if kl_mask else every), (real if cos_mask else every)
        parts = {
            "loss_ce": kl(student_logits[m], teacher_logits[m], temperature),
            "loss_mlm": ce(student_logits, labels),
            "loss_cos": cos(student_hidden[n], teacher_hidden[n]),
        }
        if not total:
            return parts
        a = (alpha_ce, alpha_mlm, alpha_cos)
        return sum(x * y for x, y in zip(a, parts.values(), strict=True))

    return distillation_loss


def ignored_zero(logits, labels):
    return F.cross_entropy(logits.flatten(0, 1), labels.clamp(min=0).flatten(), ignore_index=0)


OTHERS = {
    "kl-over-padding": {"kl_mask": False},
    "cosine-over-padding": {"cos_mask": False},
    "cosine-target": {"cos": lambda s, t: F.cosine_embedding_loss(s, t, -torch.ones(len(s)))},
    "cosine-target:bare": {"cos": lambda s, t: F.cosine_similarity(s, t).mean()},
    "ce-ignore-index": {
        "ce": lambda z, y: F.cross_entropy(z.flatten(0, 1), y.clamp(min=0).flatten())},
    "ce-ignore-index:zero": {"ce": ignored_zero},
    "ce-over-all-positions": {
        "ce": lambda z, y: F.cross_entropy(z.flatten(0, 1), y.flatten(), reduction="none").mean()},
}  # fmt: skip
PLANTED = {**{bug: {"kl": kl} for bug, kl in KL.items()}, **OTHERS}


@pytest.mark.parametrize("total", [True, False])
def test_a_right_loss_is_not_accused(total):
    report = md.check.compare_loss(make(total=total))
    assert (report.verdict, report.diagnosis) == ("agree", []), report.text()
    assert [row.name for row in report.rows if row.kind == "gradient"] == (
        ["grad.loss.student_logits", "grad.loss.student_hidden"]
        if total
        else ["grad.loss.ce", "grad.loss.mlm", "grad.loss.cos"]
    )


@pytest.mark.filterwarnings("ignore:reduction")
@pytest.mark.parametrize("total", [True, False])
@pytest.mark.parametrize("bug", PLANTED)
def test_a_planted_mistake_is_named(bug, total):
    report = md.check.compare_loss(make(**PLANTED[bug], total=total))
    assert report.verdict == "differ"
    assert [d.id for d in report.diagnosis] == [bug.split(":")[0]], report.text()
    assert "test_loss.py" in report.where


def test_the_mean_over_sequences():
    def loss(student_logits, teacher_logits, temperature):
        p, q = (
            F.log_softmax(student_logits / temperature, -1),
            F.softmax(teacher_logits / temperature, -1),
        )
        return F.kl_div(p, q, reduction="batchmean") * temperature**2

    report = md.check.compare_loss(loss)
    assert [d.id for d in report.diagnosis] == ["kl-over-padding"]
    assert "divided by the B sequences" in report.diagnosis[0].message


def test_what_is_unknown_is_not_named():
    report = md.check.compare_loss(make(kl=lambda s, t, T: right_kl(s, t, T) + 0.1))
    assert (report.verdict, report.diagnosis) == ("differ", [])
    assert "expected" in report.evidence and "no known mistake" in report.text()


def test_a_gradient_that_does_not_arrive():
    def detached(s, t, T):
        return right_kl(s * 0.5 + 0.5 * s.detach(), t, T)

    report = md.check.compare_loss(make(kl=detached))
    assert (report.verdict, report.first_difference) == ("differ", "grad.loss.student_logits")

    def half(s, t, T):
        return right_kl(s * 0.5 + 0.5 * s.detach(), t, T)

    report = md.check.compare_loss(make(kl=half, total=False))
    assert (report.verdict, report.first_difference) == ("differ", "grad.loss.ce")
    report = md.check.compare_loss(make(kl=lambda s, t, T: right_kl(s, t, T).detach(), total=False))
    assert (report.verdict, report.first_difference) == ("differ", "grad.loss.ce")
    assert "no gradient" in report.evidence


def test_arguments_that_are_not_recognised():
    with pytest.raises(ValueError, match=r"'banana'.*not recognised"):
        md.check.compare_loss(lambda banana: 0)

    def fails(student_logits):
        raise RuntimeError("no")

    with pytest.raises(ValueError, match="fails: RuntimeError: no"):
        md.check.compare_loss(fails)


# ---------------------------------------------------------------- whole models


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    pytest.importorskip("transformers")
    home = tmp_path_factory.mktemp("pair")
    teacher = md.BertConfig(
        vocab_size=40, hidden_size=12, num_hidden_layers=3, num_attention_heads=3,
        intermediate_size=20, max_position_embeddings=16,
    )  # fmt: skip
    return saved(md.from_config(CONFIG), home / "s", 1), saved(md.from_config(teacher), home / "t")


def whole(train=False, detach=True, kl=right_kl):
    def loss(student, teacher, batch, temperature):
        teacher.train(train)
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        with torch.set_grad_enabled(not detach):
            t = teacher(**inputs, output_hidden_states=True)
        s = student(**inputs, output_hidden_states=True)
        m = batch["attention_mask"].bool()
        return {
            "ce": kl(s.logits[m], t.logits[m], temperature),
            "mlm": right_ce(s.logits, batch["labels"]),
            "cos": right_cos(s.hidden_states[-1][m], t.hidden_states[-1][m]),
        }

    return loss


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize(("options", "ids"), [
    ({}, []), ({"train": True}, ["teacher-in-training-mode"]),
    ({"detach": False}, ["teacher-not-detached"]),
    ({"kl": KL["kl-tau-once"]}, ["kl-tau-once"]),
])  # fmt: skip
def test_a_loss_of_whole_models(pair, options, ids):
    report = md.check.compare_loss(whole(**options), *pair)
    assert [d.id for d in report.diagnosis] == ids, report.text()
    assert report.verdict == ("differ" if ids else "agree")
    assert math.isfinite(report.rows[0].error)
    with pytest.raises(ValueError, match="needs the folders"):
        md.check.compare_loss(whole())
