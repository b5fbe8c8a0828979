"""Terms: gradients against finite differences, formulas against PyTorch, and what is refused."""

import dataclasses

import numpy as np
import pytest

import minidistil as md
from minidistil.distill.terms import (
    AttentionLoss,
    FeatureMapTransfer,
    HiddenMSE,
    PatientMSE,
    Projected,
    RelationLoss,
    pairs_of,
)

QUIET = {"alpha_ce": 0.0, "alpha_mlm": 0.0, "alpha_cos": 0.0, "alpha_hard": 0.0}
SIZE = {"vocab_size": 19, "max_position_embeddings": 9, "hidden_act": "gelu"}
TERMS = {
    "hidden": HiddenMSE(0.7),
    "hidden-each": HiddenMSE(0.7, projection="each", embeddings=False),
    "scores": AttentionLoss("scores", 0.3),
    "scores-padded": AttentionLoss("scores", 0.3, padded=True),
    "probs": AttentionLoss("probs", 2.0),
    "ce": AttentionLoss("ce"),
    "kl": AttentionLoss("kl", layers=((1, 2), (2, 4))),
    "minilm-v1": RelationLoss(("qk", "vv")),
    "minilm-v2": RelationLoss(heads=4),
}
ALIKE = {  # those that want both of one width
    "patient": PatientMSE(5.0, layers="uniform"),
    "patient-plain": PatientMSE(5.0, normalised=False, mean=False),
    "feature-maps": FeatureMapTransfer(layers="uniform"),
}


def pair(C=8, teacher_C=12, ops=None):
    """A student of two layers and a teacher of four, away from special values."""
    ops = ops or md.backend("numpy", "float64")
    models = []
    for seed, (L, width) in enumerate(((2, C), (4, teacher_C))):
        config = md.BertConfig(
            hidden_size=width, num_hidden_layers=L, num_attention_heads=2,
            intermediate_size=10, **SIZE,
        )  # fmt: skip
        model = md.from_config(config, seed=seed)
        rng = np.random.default_rng(seed)
        model.update({n: p + rng.normal(0, 0.3, p.shape) for n, p in model.params.items()})
        models.append(model.with_ops(ops))
    return models


def batch():
    rng = np.random.default_rng(5)
    ids, mask = rng.integers(1, 19, (3, 7)), np.ones((3, 7), np.int64)
    mask[1, 4:] = mask[2, 2:4] = 0
    return {"input_ids": ids, "attention_mask": mask, "labels": np.where(mask == 1, ids, -100)}


def prepared(name, ops=None):
    term = (TERMS | ALIKE)[name]
    student, teacher = pair(teacher_C=8 if name in ALIKE else 12, ops=ops)
    config = md.DistillConfig(**QUIET, terms=(term,))
    return Projected(student, teacher, config.terms), teacher, config


class Nudged(Projected):
    """One whose parameters lie a step along a direction, in float64."""

    def __init__(self, base, direction, step):
        self.student = base.student.with_ops(base.ops)
        at = {n: np.asarray(p, np.float64) + step * direction[n] for n, p in base.params.items()}
        self.terms, self.learned = base.terms, {n: at.pop(n) for n in base.learned}
        canonical = {public: c for c, public in self.student.names.items()}
        for n, p in at.items():
            self.student.canonical()[canonical[n]] = p


@pytest.mark.parametrize("name", TERMS | ALIKE)
def test_the_gradient_is_the_derivative(name):
    student, teacher, config = prepared(name)
    rng = np.random.default_rng(1)
    direction = {n: rng.normal(size=p.shape) for n, p in student.params.items()}
    direction["bert.embeddings.word_embeddings.weight"][0] = 0  # padding is not trained
    step = 1e-5

    def loss(sign):
        return md.distill_step(
            Nudged(student, direction, sign * step), teacher, batch(), config
        ).loss

    grads = md.distill_step(Nudged(student, direction, 0), teacher, batch(), config).grads
    assert grads.keys() == set(student.params)
    along = sum((grads[n] * direction[n]).sum() for n in grads)
    assert along == pytest.approx((loss(1) - loss(-1)) / (2 * step), rel=1e-6)
    assert abs(along) > 1e-4


@pytest.mark.parametrize("name", TERMS | ALIKE)
def test_the_kernels_agree_with_the_specification(name):
    exact = md.distill_step(*prepared(name)[:2], batch(), prepared(name)[2])
    fast = md.distill_step(*prepared(name, md.backend("cpu"))[:2], batch(), prepared(name)[2])
    assert fast.loss == pytest.approx(exact.loss, rel=1e-5)
    largest = max(np.abs(g).max() for g in exact.grads.values())
    for n, g in exact.grads.items():
        np.testing.assert_allclose(fast.grads[n], g, rtol=2e-4, atol=1e-5 * largest)


# ---------------------------------------------------------------- the originals' formulas


def attention_distance(torch, term, s, t):
    """Lists of (H,t,t) scores of the student, of the teacher  ->  what the originals compute."""
    F = torch.nn.functional
    distance = {
        "scores": lambda a, b: ((a - b) ** 2).sum(),
        "probs": lambda a, b: ((a.softmax(2) - b.softmax(2)) ** 2).sum(),
        "ce": lambda a, b: -(b.softmax(2) * a.log_softmax(2)).sum(),
        "kl": lambda a, b: F.kl_div(a.log_softmax(2), b.softmax(2), reduction="sum"),
    }[term.measure]
    rows, entries = sum(2 * x.shape[1] for x in s), sum(x.numel() for x in s)
    count = rows if term.measure in ("ce", "kl") else entries
    if term.padded:
        count = 2 * 3 * 7 * 7
    return sum(distance(a, b) for a, b in zip(s, t, strict=True)) / count


@pytest.mark.parametrize("name", TERMS | ALIKE)
def test_the_formula_is_the_originals(name):
    torch = pytest.importorskip("torch", reason="compares with PyTorch: pip install torch")
    student, teacher, config = prepared(name)
    ours = md.distill_step(student, teacher, batch(), config)
    F, term = torch.nn.functional, config.terms[0]
    names = [f"layer.{i}.{x}" for i in range(4) for x in "qkv"]
    seen = []
    for model, L in ((student, 2), (teacher, 4)):
        given = {n: x for n, x in batch().items() if n != "labels"}
        out = model.forward(**given, hidden_states=True, taps=names[: 3 * L])
        seen.append((
            [torch.tensor(h) for h in out.hidden_states],
            {n: torch.tensor(x) for n, x in out.taps.items()},
        ))  # fmt: skip
    (hs, ts), (ht, tt) = seen
    mask = torch.tensor(batch()["attention_mask"]).bool()
    learned = {n: torch.tensor(np.asarray(p, np.float64)) for n, p in student.learned.items()}

    def squares(taps, i, x, y, heads):
        """Scores of each text without its padding: a list of (H,t,t)."""
        out = []
        for b in range(3):
            q, k = (taps[f"layer.{i - 1}.{z}"][b][mask[b]] for z in (x, y))
            q, k = (z.unflatten(1, (heads, -1)).transpose(0, 1) for z in (q, k))
            out.append(q @ k.mT / q.shape[2] ** 0.5)
        return out

    def project(i):
        name = "terms.0.project" + ("" if term.projection == "shared" else f".{i}")
        return hs[i] @ learned[f"{name}.weight"].T + learned[f"{name}.bias"]

    two = ((1, 2), (2, 4))
    if isinstance(term, HiddenMSE):
        pairs = ((0, 0), *two) if term.embeddings else two
        loss = sum(F.mse_loss(project(i)[mask], ht[j][mask]) for i, j in pairs)
    elif isinstance(term, AttentionLoss):
        heads = [(squares(ts, i, "q", "k", 2), squares(tt, j, "q", "k", 2)) for i, j in two]
        loss = sum(attention_distance(torch, term, s, t) for s, t in heads)
    elif isinstance(term, RelationLoss):
        loss, heads = 0, term.heads or 2
        for x, y in term.pairs:
            for a, b in zip(squares(ts, 2, x, y, heads), squares(tt, 4, x, y, heads), strict=True):
                kl = F.kl_div(a.log_softmax(2), b.softmax(2), reduction="sum")
                loss += kl / (heads * a.shape[1]) / 3
    elif isinstance(term, PatientMSE):
        unit = (lambda z: F.normalize(z, dim=1)) if term.normalised else (lambda z: z)
        pairs = two if term.layers == "uniform" else two[:1]
        loss = sum(F.mse_loss(unit(hs[i][:, 0]), unit(ht[j][:, 0])) for i, j in pairs)
        loss /= len(pairs) if term.mean else 1
    else:
        loss = 0
        for i, j in two:
            a, b = hs[i][mask], ht[j][mask]
            na, nb = (F.layer_norm(z, z.shape[1:], eps=1e-12) for z in (a, b))
            loss += F.mse_loss(na, nb) + 50 * F.mse_loss(a.mean(1), b.mean(1))
            loss += 0.05 * F.mse_loss(a.var(1, unbiased=False), b.var(1, unbiased=False))
    assert ours.loss == pytest.approx(float(loss) * term.weight, rel=1e-9)
    assert float(loss) > 1e-3


# ---------------------------------------------------------------- training, and what is refused


def test_projections_train_with_the_student_and_are_not_saved(tmp_path):
    student, teacher, config = prepared("hidden", md.backend("cpu"))
    before = student.learned["terms.0.project.weight"].copy()
    optimizer = md.AdamW(student.params, lr=0.02)
    losses = []
    for _ in range(5):
        done = md.distill_step(student, teacher, batch(), config)
        losses.append(done.loss)
        student.update(optimizer.step(done.grads))
    assert losses[-1] < losses[0]
    assert not np.allclose(student.params["terms.0.project.weight"], before)
    student.save_pretrained(tmp_path)
    saved = md.from_pretrained(tmp_path)
    assert not any(n.startswith("terms") for n in saved.params)
    np.testing.assert_array_equal(
        saved.params["bert.embeddings.LayerNorm.weight"],
        student.params["bert.embeddings.LayerNorm.weight"],
    )


def test_weights_of_several_terms_add_up():
    student, teacher = pair(teacher_C=8)
    terms = (AttentionLoss("kl", 3.0), PatientMSE(2.0))
    config = md.DistillConfig(**QUIET | {"alpha_mlm": 1.0}, terms=terms)
    done = md.distill_step(student, teacher, batch(), config)
    kl, patient, mlm = (done.parts[n] for n in ("attention.0", "patient.1", "mlm"))
    assert done.loss == pytest.approx(3 * kl + 2 * patient + mlm)


def test_layer_maps():
    assert pairs_of("uniform", 3, 6) == ((1, 2), (2, 4), (3, 6))
    assert pairs_of("skip", 3, 6) == ((1, 2), (2, 4))
    assert pairs_of("last", 3, 6) == ((3, 6),)
    assert pairs_of("first", 2, 6) == ((1, 1), (2, 2))
    assert pairs_of("uniform", 1, 2, embeddings=True) == ((0, 0), (1, 2))
    with pytest.raises(ValueError, match="5 layers of the teacher do not divide into 2"):
        pairs_of("uniform", 2, 5)
    with pytest.raises(ValueError, match=r"layers \(3, 1\): the student has 0 to 2"):
        pairs_of(((3, 1),), 2, 4)


@pytest.mark.parametrize("term, says", [
    (HiddenMSE(projection="none"), "8 channels are not the teacher's 12"),
    (HiddenMSE(), "learns project.weight: give distill_step Projected"),
    (PatientMSE(), "8 channels against 12; use HiddenMSE"),
    (FeatureMapTransfer(), "8 channels against 12"),
    (RelationLoss(heads=5), "the student's 8 channels do not split into 5 relation heads"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(term, says):
    student, teacher = pair()
    with pytest.raises(ValueError, match=says):
        md.distill_step(student, teacher, batch(), md.DistillConfig(**QUIET, terms=(term,)))


def test_heads_that_differ_are_refused():
    student, teacher = pair()
    student.config = dataclasses.replace(student.config, num_attention_heads=4)
    for term, says in ((AttentionLoss(), "4 heads against 2"), (RelationLoss(), "set heads")):
        with pytest.raises(ValueError, match=says):
            md.distill_step(student, teacher, batch(), md.DistillConfig(**QUIET, terms=(term,)))
