"""Where training differs from the code that we learnt from: steps and optimisers.

Another part of `test_known_differences.py`, which see.
"""

import math

import numpy as np
import pytest
from model_cases import CASES, SMALL, model_of
from sentence_cases import batch_of as sentence_batch
from sentence_cases import pair as sentence_pair

import minidistil as md
from minidistil import cli
from minidistil.train import Supervised, TrainConfig
from minidistil.train.budget import Feed, step_gradients, steps_for
from minidistil.train.optimizer import clip, decayed

# ---------------------------------------------------------------- steps


def test_gradients_that_cross_an_epoch():
    """distiller.py counts micro-batches anew in each epoch and keeps the gradients that are left:
    of ten with four a step, the first step of the next epoch sums six quarters. It also plans
    int(10/4·3) + 1 = 8 steps and makes 6, so its rate ends above 0. Ours counts through."""
    micro, accumulate, epochs = 10, 4, 3
    theirs, waiting = [], 0
    for _ in range(epochs):
        for i in range(1, micro + 1):
            waiting += 1
            if i % accumulate == 0:
                theirs.append(waiting)
                waiting = 0
    assert theirs == [4, 4, 6, 4, 6, 4] and int(micro / accumulate * epochs) + 1 == 8

    class Data:
        def batches(self, epoch):
            return [np.array([i]) for i in range(micro)]

        def collate(self, indices, *, step, first_sequence=0):
            return {"attention_mask": np.ones((1, 1), np.int64)}

    class Ones:
        def gradients(self, batch, **place):
            return {"loss": 1.0}, {"w": np.ones((1, 1), np.float32)}

    config = TrainConfig(epochs=epochs, accumulate=accumulate)
    feed, steps = Feed(Data()), steps_for(Ones(), Data(), config)
    ours = [step_gradients(Ones(), feed, config, i)[1]["w"].item() for i in range(steps)]
    assert ours == [1.0] * 8 and max(theirs) / accumulate == 1.5


def test_micro_batches_of_few_words():
    """distiller.py divides the loss of each micro-batch by their number, so that a masked word
    weighs more the fewer there are beside it. Ours counts every word of a step the same."""
    model = model_of(CASES["distilbert-mlm"], SMALL, backend="numpy")
    ids = np.random.default_rng(0).integers(4, SMALL["V"], (2, 9))
    labels = np.where(np.arange(9) < [[1], [9]], ids, -100)

    class Data:
        def batches(self, epoch):
            return [np.array([0]), np.array([1])]

        def collate(self, indices, *, step, first_sequence=0):
            mask = np.ones((1, 9), np.int64)
            return {"input_ids": ids[indices], "attention_mask": mask, "labels": labels[indices]}

    config = TrainConfig(steps=1, accumulate=2, backend="numpy")
    few, many = (
        model.gradients(Data().collate([i], step=0), train=True, first_sequence=i) for i in (0, 1)
    )
    theirs = few.loss / 2 + many.loss / 2
    parts, grads, _, _ = step_gradients(Supervised(model), Feed(Data()), config, 0)
    assert parts["loss"] == pytest.approx((few.loss + 9 * many.loss) / 10, rel=1e-5)
    assert abs(theirs - parts["loss"]) > 0.01
    name = max(grads, key=lambda n: np.abs(grads[n]).max())
    original, ours = (few.grads[name] + many.grads[name]) / 2, grads[name]
    assert np.linalg.norm(original - ours) > 0.5 * np.linalg.norm(ours)


def test_a_partner_is_looked_for_in_a_micro_batch():
    """A contrastive loss chooses among the texts of a batch; of micro-batches it chooses among
    fewer, in sentence-transformers without its cached losses as here: accumulating is no larger
    batch for it. Each pair still counts the same."""
    teacher, _ = sentence_pair("mean", SMALL)
    batch = sentence_batch("mean", SMALL)
    del batch["labels"]

    def loss(*numbers):
        return teacher.gradients({n: x[list(numbers)] for n, x in batch.items()}).loss

    assert loss(0, 1) < loss(0, 1, 2, 3) and loss(0) == pytest.approx(0, abs=1e-6)


def test_a_loss_that_is_not_a_number_ends_well(monkeypatch, capsys):
    """distiller.py calls exit() when the loss is NaN, which tells the shell that all went well.
    Ours names the place where the first NaN came from, and its exit code is 1."""
    with pytest.raises(SystemExit) as left:
        exit()
    assert left.value.code is None  # 0 to the shell

    def diverged(parser, argv):
        raise FloatingPointError("the loss is nan at step 7")

    monkeypatch.setattr(cli, "_answer", diverged)
    assert cli.main(["distill"]) == 1 and "at step 7" in capsys.readouterr().err


def test_a_run_that_goes_on_without_its_moments():
    """distiller.py's checkpoint is weights alone: whoever goes on from it starts Adam anew, and the
    next step is as long as a first one. Ours keeps the moments, and the next step has its bits."""
    grads = [{"w": np.array([[g]], np.float32)} for g in (8.0, 0.1)]
    params = {"w": np.zeros((1, 1), np.float32)}

    def optimizer():
        return md.AdamW(params, 1e-3, (0.9, 0.999), 1e-6, 0.0)

    whole = optimizer()
    whole.step(grads[0])
    again, forgetful = optimizer(), optimizer()
    again.load(whole.state())
    expected = whole.step(grads[1])["w"]
    assert again.step(grads[1])["w"] == expected
    theirs = forgetful.step(grads[1])["w"]
    assert abs(theirs / expected) > 1.3


# ---------------------------------------------------------------- optimisers


def test_a_decay_that_nobody_sets():
    """TinyBERT's scripts have --weight_decay and give 0.01 to the optimiser whatever it says. Ours
    is what is asked for."""
    theirs = {"asked": 0.0, "used": 0.01}
    w = np.ones((1, 1), np.float32)
    none, some = (
        md.AdamW({"w": w}, 0.1, weight_decay=d).step({"w": 0 * w})["w"].item()
        for d in theirs.values()
    )
    assert none == 1 and some == pytest.approx(1 - 0.1 * 0.01)


def test_projections_that_are_not_clipped():
    """TextBrewer clips the student's gradients; its projections have a group and a rate of their
    own, and no clip. Ours are parameters like any other: one length for all."""
    grads = {
        "w": np.array([3.0], np.float32),
        "terms.0.project.weight": np.array([4.0], np.float32),
    }
    theirs = grads | {"w": grads["w"] / 3}
    assert math.hypot(*(g.item() for g in theirs.values())) == pytest.approx(math.sqrt(17))
    clip(grads, 1.0)
    assert math.hypot(*(g.item() for g in grads.values())) == pytest.approx(1, rel=1e-4)


def test_decayed_layer_norms():
    """train.py spares what is called "bias" or "LayerNorm.weight" from weight decay. DistilBERT
    calls its norms sa_layer_norm, output_layer_norm, vocab_layer_norm, so they decay. Ours spares
    what has one axis, whatever its name."""
    params = model_of(CASES["distilbert-mlm"], SMALL).params
    spared = ("bias", "LayerNorm.weight")
    theirs = {n for n in params if not any(part in n for part in spared)}
    norms = {n for n in params if "norm.weight" in n.lower()}
    assert len(norms & theirs) == 2 * SMALL["L"] + 1  # all but the embeddings'
    assert not norms & decayed(params)
    assert theirs - norms == decayed(params)


def test_adam_without_its_bias_correction():
    """TinyBERT's BertAdam: with β = (0.9, 0.999) the first step is 0.1·g/√(0.001·g²) = 3.16
    learning rates long. Adam's, and ours, is one. (Their warm-up hides most of it.)"""
    g, lr = np.array([[0.5]], np.float32), 1e-3
    m, v = 0.1 * g, 0.001 * g**2
    theirs = lr * m / (np.sqrt(v) + 1e-6)
    optimizer = md.AdamW({"w": np.zeros((1, 1), np.float32)}, lr, (0.9, 0.999), 1e-6, 0.0)
    ours = -optimizer.step({"w": g})["w"]
    assert theirs.item() / lr == pytest.approx(3.16, abs=0.01)
    assert ours.item() / lr == pytest.approx(1, abs=0.01)


def test_clipped_one_by_one():
    """BertAdam clips each parameter's gradient to length 1 on its own, which turns the step away
    from the gradient: of 3 and 0.5 become 1 and 0.5. Ours scales all of them alike."""
    grads = {"a": np.array([3.0], np.float32), "b": np.array([0.5], np.float32)}
    theirs = {n: g * min(1, 1 / abs(g).item()) for n, g in grads.items()}
    assert (theirs["a"] / theirs["b"]).item() == pytest.approx(2)
    ours = dict(grads)
    clip(ours, 1.0)
    assert (ours["a"] / ours["b"]).item() == pytest.approx(6)
    assert math.hypot(*(g.item() for g in ours.values())) == pytest.approx(1, rel=1e-4)


def test_losses_in_half_precision():
    """PKD's loss functions end in .half(): what a loss of 7 gains in a step, 0.001, is gone."""
    theirs = np.float16(7.001) - np.float16(7.0)
    assert theirs == 0
    z, t = np.array([[7.0]]), np.array([[0.0]])
    assert isinstance(md.losses.mse(z, t)[0], float)


def test_the_weights_that_made_distilbert():
    """train.py's defaults are α_ce 0.5, α_mlm 0.0, α_clm 0.5, and with --mlm it stops unless
    α_clm is set to 0; its README shows 0.33 of each. The weights were made with 5, 2, 1, 0 (thread
    2013 of transformers), and these are our defaults."""
    config = md.DistillConfig()
    ours = config.alpha_ce, config.alpha_mlm, config.alpha_cos, config.alpha_clm
    assert ours == (5.0, 2.0, 1.0, 0.0)
