"""A teacher's answers on disk: the same losses, in three formats, refused where they do not fit."""

import dataclasses

import numpy as np
import pytest
from distill_cases import BERT, CLASSES, STUDENT
from model_cases import CASES, SMALL, model_of

import minidistil as md
from minidistil.data.batches import collate, plan
from minidistil.data.sequence_ids import Numbered
from minidistil.distill.teacher_cache import INDEX, SUMS, CachedTeacher, keep_top, spread_out
from minidistil.model.ensemble import Ensemble

WORDS, LABELS = (BERT, STUDENT), (CASES["bert-single"], CLASSES)
KINDS = pytest.mark.parametrize("cases", [WORDS, LABELS], ids=["words", "classes"])
BOTH = pytest.mark.parametrize("backend", ["numpy", "cpu"])
BESIDE = INDEX, SUMS  # what lies beside the arrays
PLAIN = md.DistillConfig(alpha_mse=0.2)
SOFT = md.DistillConfig(alpha_cos=0.0)


class Texts:
    """Thirty sequences of uneven length, each with labels of its own."""

    def __init__(self, words, seed=0):
        rng = np.random.default_rng(seed)
        self.seed, self.words = 0, words
        self.sequences = [rng.integers(1, SMALL["V"], n) for n in rng.integers(2, 9, 30)]
        self.lengths = np.array([len(ids) for ids in self.sequences])

    def batches(self, epoch):
        return plan(self.lengths, tokens=17, seed=5, epoch=epoch)

    def collate(self, indices, *, step, first_sequence=0):
        batch = collate([self.sequences[i] for i in indices], 0)
        if self.words:
            real = batch["attention_mask"] == 1
            return batch | {"labels": np.where(real, batch["input_ids"], -100)}
        return batch | {"labels": np.asarray(indices) % 3}


def world(cases, backend="cpu", seed=0):
    """student, teacher, data."""
    teacher = model_of(cases[0], SMALL, seed=1, backend=backend)
    student = model_of(cases[1], SMALL | {"L": 1}, seed=2, backend=backend)
    return student, teacher, Numbered(Texts(cases is WORDS, seed))


def told(student, teacher, cached, data, config):
    """Pairs of steps: by the teacher itself, by what was kept of it."""
    return zip(*(losses(student, t, data, config) for t in (teacher, cached)), strict=True)


def losses(student, teacher, data, config):
    """The parts and gradients of every batch of two epochs."""
    return [
        md.distill_step(student, teacher, data.collate(numbers, step=0), config)
        for epoch in (0, 1)
        for numbers in data.batches(epoch)
    ]


@BOTH
@KINDS
@pytest.mark.parametrize("restricted", [False, True])
def test_whole_has_the_same_bits(cases, backend, restricted, tmp_path):
    student, teacher, data = world(cases, backend)
    config = dataclasses.replace(PLAIN, restrict_ce_to_mask=restricted)
    cached = CachedTeacher(tmp_path / "cache", teacher, data, config)
    for own, kept in told(student, teacher, cached, data, config):
        if backend == "cpu":
            assert own.parts == kept.parts
            for name, g in own.grads.items():
                np.testing.assert_array_equal(kept.grads[name], g)
        assert kept.parts == pytest.approx(own.parts, rel=1e-5, abs=1e-6)


@KINDS
def test_half_is_near(cases, tmp_path):
    student, teacher, data = world(cases)
    cached = CachedTeacher(tmp_path / "cache", teacher, data, PLAIN, "half")
    sizes = [sum(f.stat().st_size for f in (tmp_path / "cache").iterdir() if f.name not in BESIDE)]
    CachedTeacher(tmp_path / "whole", teacher, data, PLAIN)
    sizes += [sum(f.stat().st_size for f in (tmp_path / "whole").iterdir() if f.name not in BESIDE)]
    assert 2 * sizes[0] == sizes[1]
    for own, kept in zip(
        *(losses(student, t, data, PLAIN) for t in (teacher, cached)), strict=True
    ):
        assert kept.loss == pytest.approx(own.loss, rel=1e-2) and kept.loss != own.loss


@pytest.mark.parametrize("tau", [1.0, 2.0, 6.0])
@pytest.mark.parametrize("N", [1, 5, 11])
def test_the_top_keeps_its_shares_and_the_rest_its_sum(N, tau):
    z = np.random.default_rng(0).normal(0, 3, (6, 11)).astype(np.float32)
    values, words, rest = keep_top(z, N, tau)
    again = spread_out(values, words, rest, 11, tau)
    p, q = (np.exp(x.astype(np.float64) / tau) for x in (z, again))
    p, q = p / p.sum(axis=1, keepdims=True), q / q.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(
        np.take_along_axis(q, words.astype(int), 1), np.take_along_axis(p, words.astype(int), 1),
        rtol=1e-5,
    )  # fmt: skip
    assert (np.take_along_axis(z, words.astype(int), 1).min(axis=1) >= np.sort(z)[:, -N]).all()
    others = np.ones_like(z, bool)
    np.put_along_axis(others, words.astype(int), False, 1)
    for row, free in zip(q, others, strict=True):
        np.testing.assert_allclose(row[free], row[free].mean() if free.any() else [], rtol=1e-5)


@BOTH
@KINDS
def test_all_of_the_top_is_the_whole(cases, backend, tmp_path):
    student, teacher, data = world(cases, backend)
    cached = CachedTeacher(tmp_path / "all", teacher, data, SOFT, f"top{SMALL['V']}")
    few = CachedTeacher(tmp_path / "few", teacher, data, SOFT, "top2")
    steps = [losses(student, t, data, SOFT) for t in (teacher, cached, few)]
    for own, every, two in zip(*steps, strict=True):
        assert every.loss == pytest.approx(own.loss, rel=1e-6)
        assert two.parts["ce"] < own.parts["ce"] + 1e-6  # merging words brings both nearer


def test_the_logits_of_every_token(tmp_path):
    """Named entities: as many rows as tokens, a few classes each."""
    cases = CASES["bert-tokens"], CASES["distilbert-tokens"]._replace(extra={"labels": 5})
    student, teacher, _ = world(cases)
    data = Texts(words=True)
    plain = data.collate

    def collate_classes(indices, **place):
        batch = plain(indices, **place)
        return batch | {"labels": np.where(batch["labels"] < 0, -100, 0)}

    data.collate, data = collate_classes, Numbered(data)
    K = teacher.config.num_labels
    for form, config in (("whole", PLAIN), (f"top{K}", SOFT)):
        cached = CachedTeacher(tmp_path / form, teacher, data, config, form)
        for own, kept in told(student, teacher, cached, data, config):
            assert kept.loss == pytest.approx(own.loss, rel=0 if form == "whole" else 1e-5)


def test_several_teachers_are_kept_by_their_logits(tmp_path):
    student, teacher, data = world(LABELS)
    both = Ensemble([teacher, model_of(LABELS[0], SMALL, seed=7)])
    cached = CachedTeacher(tmp_path / "cache", both, data, SOFT)
    for own, kept in told(student, both, cached, data, SOFT):
        assert own.loss == kept.loss


def test_a_second_student_asks_nobody(tmp_path, monkeypatch):
    student, teacher, data = world(WORDS)
    CachedTeacher(tmp_path / "cache", teacher, data, PLAIN)
    expected = losses(student, teacher, data, PLAIN)
    cached = CachedTeacher(tmp_path / "cache", teacher, data, PLAIN)
    monkeypatch.setattr(type(teacher), "infer", None)
    other = losses(student, cached, data, PLAIN)
    assert [step.loss for step in other] == [step.loss for step in expected]


# ---------------------------------------------------------------- refused


def test_a_cache_of_something_else_is_refused(tmp_path):
    _, teacher, data = world(WORDS)
    folder = tmp_path / "cache"
    CachedTeacher(folder, teacher, data, SOFT, "top3")

    def refused(words, teacher=teacher, data=data, config=SOFT, form="top3"):
        with pytest.raises(ValueError, match=words) as caught:
            CachedTeacher(folder, teacher, data, config, form)
        assert "\n" not in str(caught.value)

    refused("was kept as top3, this run needs top4", form="top4")
    refused(
        "kept at temperature 2.0, this run needs 3.0",
        config=dataclasses.replace(SOFT, temperature=3.0),
    )
    refused("of a teacher whose weights", teacher=model_of(BERT, SMALL, seed=8))
    refused("for texts whose digest", data=world(WORDS, seed=3)[2])
    other = world(WORDS)[2]
    other.seed = 1
    refused("masks of seed 0, this run needs 1", data=other)
    refused("with hidden states False", config=md.DistillConfig())
    CachedTeacher(folder, teacher, data, SOFT, "top3")


@pytest.mark.parametrize(
    "form, options, words",
    [
        ("top", {}, "whole, half or topN such as top64, not 'top'"),
        ("top0", {}, "not 'top0'"),
        ("top3", {"alpha_mse": 1.0}, "too few logits for alpha_mse"),
        ("top3", {"vary": ("temperature=linear:8:1",)}, "weighs at one temperature"),
    ],
)
def test_what_a_format_cannot_keep(form, options, words, tmp_path):
    _, teacher, data = world(WORDS)
    with pytest.raises(ValueError, match=words):
        CachedTeacher(tmp_path / "c", teacher, data, md.DistillConfig(**options), form)
    assert not (tmp_path / "c").exists()


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    _, teacher, data = world(WORDS)
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match="holds other things than a cache"):
        CachedTeacher(tmp_path, teacher, data, PLAIN)
    assert [p.name for p in tmp_path.iterdir()] == ["letter.txt"]


def test_nothing_is_left_of_a_cache_that_failed(tmp_path):
    _, teacher, data = world(WORDS)
    huge = "bert.encoder.layer.1.output.LayerNorm.weight"
    teacher.update({huge: np.full(SMALL["C"], 1e6)})
    with pytest.raises(ValueError, match="too large for half precision"):
        CachedTeacher(tmp_path / "c", teacher, data, PLAIN, "half")
    assert list(tmp_path.iterdir()) == []


def test_a_batch_without_numbers_is_refused(tmp_path):
    student, teacher, data = world(WORDS)
    cached = CachedTeacher(tmp_path / "c", teacher, data, PLAIN)
    batch = data.data.collate(np.arange(3), step=0)
    with pytest.raises(ValueError, match=r"number their sequences: Numbered\(data\)"):
        md.distill_step(student, cached, batch, PLAIN)
