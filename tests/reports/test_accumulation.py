"""Several micro-batches a step count as the one batch they are cut from: each label the same.

Everything is computed in float64 by the NumPy specification, so that only rounding is left between
a batch and its parts.
"""

import distill_cases
import image_cases
import model_cases
import numpy as np
import pair_cases
import pytest
import sentence_cases
import sequence_cases
import term_cases
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import CASES, SMALL

import minidistil as md
from minidistil.distill.conventions import CONVENTIONS
from minidistil.distill.objectives import Projected
from minidistil.model.task_loss import IGNORED
from minidistil.train import Distillation, Supervised, TrainConfig
from minidistil.train.budget import Feed, step_gradients

BEYOND = 1000  # a column where no answer is
ALONE = [n for n in distill_cases.CONFIGS if n not in distill_cases.BY_ROW]


class Cut:
    """A batch as micro-batches, each as wide as its longest text."""

    def __init__(self, batch, parts):
        self.batch, self.parts = batch, parts

    def batches(self, epoch):
        return self.parts

    def collate(self, indices, *, step, first_sequence):
        part = {name: x[indices] for name, x in self.batch.items()}
        if "input_ids" not in part:
            return part
        widths = {name: x.shape[-1] for name, x in self.batch.items() if x.ndim > 1}
        real = part["attention_mask"].reshape(-1, widths["attention_mask"]).any(axis=0)
        longest = np.flatnonzero(real)[-1] + 1
        return {
            name: x[..., :longest] if widths.get(name) == widths["attention_mask"] else x
            for name, x in part.items()
        }


def taken(objective, batch, parts):
    """parts and grads of one step that takes the batch in these pieces."""
    config = TrainConfig(steps=1, accumulate=len(parts), backend="numpy", seed=3)
    return step_gradients(objective, Feed(Cut(batch, parts)), config, step=5)[:2]


def check(objective, batch, data):
    """In a random order, without some of its labels, cut at random: the whole's numbers."""
    B = len(next(iter(batch.values())))
    batch = {"attention_mask": np.ones((B, 1), np.int64)} | batch
    batch = unlabelled_in_part(batch, data)
    order = np.array(data.draw(st.permutations(range(B))))
    batch = {name: x[order] for name, x in batch.items()}
    cuts = sorted(data.draw(st.sets(st.integers(1, B - 1), min_size=1)))
    micro = np.split(np.arange(B), cuts)
    parts, grads = taken(objective, batch, [np.arange(B)])
    ours, mine = taken(objective, batch, micro)
    assert ours == pytest.approx(parts, rel=1e-9, abs=1e-12)
    scale = max(np.abs(g).max() for g in grads.values())
    for name, g in grads.items():
        np.testing.assert_allclose(mine[name], g, rtol=1e-8, atol=1e-10 * scale, err_msg=name)


def unlabelled_in_part(batch, data):
    """The batch without the labels of some of its texts, the first kept where it has any."""
    B = len(batch["attention_mask"])
    for name in ("labels", "start_positions", "end_positions"):
        x = batch.get(name)
        if x is None or x.dtype.kind != "i":
            continue
        x, nothing = x.copy(), IGNORED if name == "labels" else BEYOND
        here = x != IGNORED if name == "labels" else x < batch["input_ids"].shape[-1]
        labelled = [b for b in range(B) if here[b].any()]
        gone = data.draw(st.sets(st.sampled_from(labelled), max_size=len(labelled) - 1))
        x[list(gone)] = nothing
        batch = batch | {name: x}
    return batch


SUPERVISED = [n for n, case in CASES.items() if case.task != "feature-extraction"]


@pytest.mark.parametrize("name", SUPERVISED)
@settings(max_examples=6)
@given(st.data())
def test_supervised(name, data):
    """Was: each micro-batch weighed the same, one with 1 label as much as one with 9.
    Right: the loss and gradients of the whole batch, of every task's own loss."""
    model = model_cases.exact(model_cases.model_of(CASES[name], SMALL))
    check(Supervised(model), model_cases.batch_of(CASES[name], SMALL), data)


@pytest.mark.parametrize("case", pair_cases.CASES)
@settings(max_examples=6)
@given(st.data())
def test_encoder_decoders(case, data):
    """Was: a micro-batch of short targets weighed as much as one of long ones.
    Right: the whole batch's, each word of a target the same."""
    case = pair_cases.CASES[case]
    model = pair_cases.exact(pair_cases.model_of(case, pair_cases.SMALL))
    check(Supervised(model), pair_cases.batch_of(case, pair_cases.SMALL), data)


@pytest.mark.parametrize("family", ["vit", "deit"])
@settings(max_examples=6)
@given(st.data())
def test_images(family, data):
    """Was: a micro-batch of one image weighed as much as one of four.
    Right: each labelled image the same."""
    model = image_cases.model_of(family, "image-classification")
    check(Supervised(image_cases.exact(model)), image_cases.batch_of(), data)


@settings(max_examples=6)
@given(st.data())
def test_sentences(data):
    """Was: a micro-batch of one pair weighed as much as one of three.
    Right: each pair the same."""
    model, _ = sentence_cases.pair("mean", sentence_cases.SMALL)
    batch = sentence_cases.batch_of("mean", sentence_cases.SMALL)
    check(Supervised(sentence_cases.exact(model)), batch, data)


# ---------------------------------------------------------------- distillation


@pytest.mark.parametrize("name", ALONE)
@settings(max_examples=4)
@given(st.data())
def test_distillation(name, data):
    """Was: ce, mlm, clm, cos, mse and hard were averaged over micro-batches.
    Right: each is the mean over what the whole batch has of its own kind."""
    cases = distill_cases.cases_of(name)
    teacher, student, batch = distill_cases.pair(*cases, SMALL)
    student, teacher = model_cases.exact(student), model_cases.exact(teacher)
    config = md.DistillConfig(**distill_cases.CONFIGS[name])
    check(Distillation(student, teacher, config), batch, data)


@pytest.mark.parametrize("head", [*distill_cases.TARGETS, "words"])
@pytest.mark.parametrize("convention", CONVENTIONS)
@settings(max_examples=2)
@given(st.data())
def test_conventions(convention, head, data):
    """Was: whichever way soft targets are counted, each micro-batch weighed the same.
    Right: the whole batch's; of a span, too, whose columns some conventions average over."""
    cases = distill_cases.TARGETS.get(head, (distill_cases.BERT, distill_cases.STUDENT))
    teacher, student, batch = distill_cases.pair(*cases, SMALL)
    student, teacher = model_cases.exact(student), model_cases.exact(teacher)
    config = md.DistillConfig(convention=convention, alpha_mse=0.2)
    check(Distillation(student, teacher, config), batch, data)


@pytest.mark.parametrize("name", term_cases.EVERY)
@settings(max_examples=4)
@given(st.data())
def test_terms(name, data):
    """Was: a hidden state or a relation in a small micro-batch weighed more.
    Right: the whole batch's, of the padding, too, where an original counts it."""
    student, teacher, config = term_cases.prepared(name)
    check(Distillation(student, teacher, config), term_cases.batch(), data)


@pytest.mark.parametrize("name", sequence_cases.LESSONS)
@settings(max_examples=4)
@given(st.data())
def test_word_level(name, data):
    """Was: a micro-batch of short targets weighed as much as one of long ones.
    Right: the whole batch's, cos over all that the decoders read."""
    teacher, student = map(sequence_cases.exact, sequence_cases.pair(name, sequence_cases.SMALL))
    objective = Distillation(student, teacher, sequence_cases.config_of(name))
    check(objective, sequence_cases.batch_of(name, sequence_cases.SMALL), data)


@pytest.mark.parametrize("name", sentence_cases.LESSONS)
@settings(max_examples=4)
@given(st.data())
def test_vectors(name, data):
    """Was: a micro-batch of one text weighed as much as one of three.
    Right: each vector the same, and each token of cos."""
    teacher, student = map(sentence_cases.exact, sentence_cases.pair(name, sentence_cases.SMALL))
    objective = Distillation(student, teacher, sentence_cases.config_of(name))
    check(objective, sentence_cases.batch_of(name, sentence_cases.SMALL), data)


@pytest.mark.parametrize("kind", image_cases.LESSONS)
@settings(max_examples=4)
@given(st.data())
def test_taught_images(kind, data):
    """Was: a micro-batch of one image weighed as much as one of four.
    Right: the class token counts labelled images, the distillation token all of them."""
    teacher, student = map(image_cases.exact, image_cases.pair())
    objective = Distillation(student, teacher, image_cases.lesson(kind))
    check(objective, image_cases.batch_of(), data)


# ---------------------------------------------------------------- numbers of the report


def test_one_label_beside_nine():
    """Was: 1 and 9 labels in two micro-batches gave the mean of two means.
    Right: the mean of ten labels, as transformers counts with num_items_in_batch."""
    model = model_cases.exact(model_cases.model_of(CASES["distilbert-mlm"], SMALL))
    ids = np.random.default_rng(0).integers(4, SMALL["V"], (2, 9))
    labels = ids.copy()
    labels[0, 1:] = IGNORED
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids), "labels": labels}
    alone = [
        model.gradients({n: x[[b]] for n, x in batch.items()}, True, 3, 5, first_sequence=b).loss
        for b in (0, 1)
    ]
    parts, _ = taken(Supervised(model), batch, [np.array([0]), np.array([1])])
    assert parts["loss"] == pytest.approx((alone[0] + 9 * alone[1]) / 10, rel=1e-12)
    assert abs(parts["loss"] - np.mean(alone)) > 0.01


def test_an_objective_that_counts_nothing():
    """Was: the only way. Right: for an objective without `counts`, such as one of a user's, each
    micro-batch weighs the same, as the protocol says."""

    class Means:
        def gradients(self, batch, **place):
            x = float(batch["x"].mean())
            return {"loss": x}, {"w": np.array([x], np.float32)}

    batch = {"x": np.array([1.0, 5.0, 7.0]), "attention_mask": np.ones((3, 1), np.int64)}
    parts, grads = taken(Means(), batch, [np.array([0]), np.array([1, 2])])
    assert parts["loss"] == 3.5 and grads["w"] == 3.5


def test_no_label_in_the_whole_step():
    """Was: one micro-batch without a label ended the run, whatever the others held.
    Right: only a step that has none at all is refused."""
    model = model_cases.exact(model_cases.model_of(CASES["distilbert-mlm"], SMALL))
    ids = np.random.default_rng(0).integers(4, SMALL["V"], (2, 9))
    batch = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    labels = np.full_like(ids, IGNORED)
    micro = [np.array([0]), np.array([1])]
    with pytest.raises(ValueError, match="all 9 labels are -100"):
        taken(Supervised(model), batch | {"labels": labels}, micro)
    labels[1, 3] = 5
    parts, _ = taken(Supervised(model), batch | {"labels": labels}, micro)
    whole, _ = taken(Supervised(model), batch | {"labels": labels}, [np.array([0, 1])])
    assert parts == pytest.approx(whole)


def test_what_varies_is_written_down_as_it_is():
    """Was: right. Right: a temperature that varies is no mean, and three micro-batches leave it."""
    teacher, student, batch = distill_cases.pair(size=SMALL)
    config = md.DistillConfig(vary=("temperature=linear:4:1",))
    objective = Distillation(model_cases.exact(student), model_cases.exact(teacher), config)
    objective.begin(10)
    parts, _ = taken(objective, batch, [np.array([0]), np.array([1, 2]), np.array([3])])
    assert parts["temperature"] == pytest.approx(2.5)


def test_learnt_projections_are_counted():
    """Was: a projection's gradient was averaged, too. Right: `Projected` adds up as its student."""
    student, teacher, config = term_cases.prepared("hidden")
    assert isinstance(student, Projected)
    batch = term_cases.batch()
    whole = taken(Distillation(student, teacher, config), batch, [np.arange(3)])[1]
    parts = taken(Distillation(student, teacher, config), batch, [np.arange(1), np.arange(1, 3)])[1]
    np.testing.assert_allclose(
        parts["terms.0.project.weight"], whole["terms.0.project.weight"], rtol=1e-9
    )
