"""Early stopping, keeping the best model, class weights and label smoothing, on the command line
and in `md.train`."""

import json
import math
import signal

import distill_cases
import model_cases
import numpy as np
import pair_cases
import pytest
from model_cases import CASES, SMALL
from train_toy import ToyData, ToyObjective, config
from training_world import QUICK, answer, labelled_file, model_folder, refused, text_file

import minidistil as md
from minidistil.cli.task_options import balanced
from minidistil.model.label_counts import Counting, Shares
from minidistil.train import Run, Supervised, TrainConfig, counting_of
from minidistil.train.loop import run_loop

COURSE = (5.0, 3.0, 4.0, 1.0, 2.0, 6.0, 1.0, 0.5, 7.0)  # the loss of one evaluation after another
EVERY = {"steps": 8, "eval_every": 1, "log_every": 3, "checkpoint_every": 2, "accumulate": 1}


class Course:
    """An evaluation that follows from the step, and notes the parameters that it sees."""

    def __init__(self, objective, course=COURSE, at=0):
        self.objective, self.course, self.at, self.seen = objective, course, at, []

    def __call__(self, model):
        self.seen.append({n: x.copy() for n, x in model.params.items()})
        self.at += 1
        return {"loss": self.course[self.at - 1], "accuracy": -self.course[self.at - 1]}


def trained(folder=None, course=COURSE, at=0, resume=False, **options):
    objective = ToyObjective()
    evaluate = Course(objective, course, at)
    run = None if folder is None else Run(folder, resume=resume)
    found = run_loop(objective, ToyData(), config(**EVERY | options), run=run, evaluate=evaluate)
    return found, objective.model.params, evaluate.seen


def same(one, other):
    assert all(one[n].tobytes() == other[n].tobytes() for n in one)


@pytest.mark.parametrize("patience, stop", [(1, 2), (2, 5), (3, 6), (4, 8), (20, 8)])
def test_patience(patience, stop):
    """Was: missing. Right: training ends after so many evaluations in a row that were no better;
    one that is equal is no better."""
    found, params, seen = trained(patience=patience)
    assert found["step"] == stop and not found["interrupted"]
    assert found["kept"]["why"] == "the last" and ("stopped" in found["kept"]) == (stop < 8)
    same(params, seen[stop])


@pytest.mark.parametrize("measure", [(), "accuracy", ("f1", "loss")])
def test_the_best_is_kept(measure):
    """Was: missing. Right: the parameters of the evaluation that was best by the measure, lower for
    a loss and higher for an accuracy."""
    found, params, seen = trained(keep="best", measure=measure)
    assert found["step"] == 8 and found["kept"]["step"] == 7
    assert found["evaluation"] == {"loss": 0.5, "accuracy": -0.5}
    same(params, seen[7])


def test_both():
    """Was: missing. Right: stopped at step 5, the best of step 3 kept, and the report says so."""
    found, params, seen = trained(patience=2, keep="best")
    assert found["kept"] == {"step": 3, "measure": "loss", "value": 1.0, "why": "the best loss",
                             "stopped": "no better loss in 2 evaluations"}  # fmt: skip
    same(params, seen[3])


def test_training_that_makes_it_worse():
    """Was: missing. Right: the model before the first step was the best, and is kept."""
    found, params, _ = trained(keep="best", course=sorted(COURSE))
    assert found["kept"]["step"] == 0
    same(params, ToyObjective().model.params)


def test_nan_is_never_the_best():
    """Was: missing. Right: everything is better than an evaluation that is NaN."""
    found, _, _ = trained(keep="best", course=(math.nan, 3.0, math.nan, 2.0, *[math.nan] * 5))
    assert found["kept"]["step"] == 3 and found["kept"]["value"] == 2.0


@pytest.mark.parametrize("stop", [1, 2, 4, 5])
@pytest.mark.parametrize("options", [{"keep": "best"}, {"keep": "best", "patience": 3}])
def test_resumed_with_equal_bits(tmp_path, monkeypatch, stop, options):
    """Was: missing. Right: interrupted wherever, the same step is kept with the same bits."""
    whole, expected, _ = trained(tmp_path / "whole", **options)
    gradients = ToyObjective.gradients

    def interrupting(self, batch, *, step, **place):
        if step == stop - 1:
            signal.raise_signal(signal.SIGINT)
        return gradients(self, batch, step=step, **place)

    with monkeypatch.context() as patch:
        patch.setattr(ToyObjective, "gradients", interrupting)
        half, _, _ = trained(tmp_path / "half", **options)
    assert half["interrupted"] and half["step"] == stop
    found, params, _ = trained(tmp_path / "half", at=stop + 1, resume=True, **options)
    same(params, expected)
    assert found["kept"] == whole["kept"] and found["evaluation"] == whole["evaluation"]
    again, params, _ = trained(tmp_path / "half", at=9, resume=True, **options)  # has ended
    same(params, expected)
    assert again["kept"] == whole["kept"]
    report = json.loads((tmp_path / "half" / "report.json").read_text())
    assert report["kept"] == whole["kept"]


def test_a_run_from_before(tmp_path):
    """Was: a run.json without the new options would contradict them. Right: they were off."""
    trained(tmp_path, steps=4)
    stored = json.loads((tmp_path / "run.json").read_text())
    old = TrainConfig.from_dict({
        n: x for n, x in stored["plan"]["config"].items()
        if n not in ("patience", "keep", "measure", "class_weights", "label_smoothing")
    })  # fmt: skip
    assert old.to_dict() == stored["plan"]["config"]


@pytest.mark.parametrize(
    "options, message",
    [
        ({"patience": 0}, "patience must be a whole number above 0, not 0"),
        ({"keep": "first"}, "keep must be one of last, best, not 'first'"),
        ({"label_smoothing": 1.0}, "label_smoothing must be from 0 to below 1, not 1.0"),
        ({"class_weights": (1, -1)}, "class_weights must be finite numbers from 0 up"),
        ({"class_weights": (0, 0)}, "one of them above 0"),
    ],
)
def test_options_that_make_no_sense(options, message):
    """Was: missing. Right: ValueError when the config is made."""
    with pytest.raises(ValueError, match=message):
        config(**options)


def test_nothing_to_judge_by(tmp_path):
    """Was: missing. Right: refused before the first step, and nothing is left."""
    with pytest.raises(ValueError, match="need evaluations"):
        run_loop(ToyObjective(), ToyData(), config(patience=2), run=tmp_path / "run")
    with pytest.raises(ValueError, match="measure must be one of loss, accuracy, not f1"):
        trained(tmp_path / "run", keep="best", measure="f1")
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- how labels count

WEIGHTS, SMOOTH = (0.5, 2.0, 1.0), 0.1


@pytest.mark.parametrize("weights, smoothing", [(WEIGHTS, 0.0), (None, SMOOTH), (WEIGHTS, SMOOTH)])
def test_losses_as_pytorch(weights, smoothing):
    """Was: missing. Right: the loss and gradient of CrossEntropyLoss(weight=, label_smoothing=)."""
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(4, 5, 3)), rng.integers(0, 3, (4, 5))
    labels[0, :3] = -100
    z = torch.tensor(logits, requires_grad=True)
    weight = None if weights is None else torch.tensor(weights, dtype=torch.float64)
    loss = torch.nn.CrossEntropyLoss(weight=weight, label_smoothing=smoothing)
    theirs = loss(z.flatten(0, 1), torch.tensor(labels).flatten())
    theirs.backward()
    mine, d = md.losses.cross_entropy(
        logits, labels, class_weights=weights, label_smoothing=smoothing
    )
    assert mine == pytest.approx(theirs.item(), rel=1e-12)
    np.testing.assert_allclose(d, z.grad.numpy(), rtol=1e-10, atol=1e-14)


def test_losses_refuse():
    """Was: missing. Right: one line with the rule and both values."""
    z, labels = np.zeros((2, 3)), np.array([0, 1])
    for given, message in (
        ({"class_weights": [1, 2]}, "must be 3 numbers, one a class, not int64 (2,)"),
        ({"class_weights": [1, -2, 3]}, "must be finite and from 0 up, not [1, -2, 3]"),
        ({"class_weights": ["a", "b", "c"]}, "must be 3 numbers"),
        ({"label_smoothing": 1}, "from 0 to below 1, not 1"),
    ):
        with pytest.raises(ValueError) as error:
            md.losses.cross_entropy(z, labels, **given)
        assert message in str(error.value)


COUNTING = {
    "bert-single": Counting(class_weights=WEIGHTS, label_smoothing=SMOOTH),
    "roberta-tokens": Counting(class_weights=WEIGHTS, label_smoothing=SMOOTH),
}


@pytest.mark.parametrize("name", COUNTING)
def test_micro_batches_of_weighted_labels(name):
    """Was: missing. Right: micro-batches count the weights of their labels, and add up."""
    model = model_cases.exact(model_cases.model_of(CASES[name], SMALL))
    batch, counting = model_cases.batch_of(CASES[name], SMALL), COUNTING[name]
    whole = model.gradients(batch, counting=counting)
    plain = model.gradients(batch)
    assert whole.loss != pytest.approx(plain.loss)
    total, loss, grads = model.counts(batch, counting)["labels"], 0.0, {}
    for part in (slice(0, 1), slice(1, 4)):
        micro = {n: x[part] for n, x in batch.items()}
        share = Shares(labels=model.counts(micro, counting)["labels"] / total)
        step = model.gradients(micro, counting=counting._replace(shares=share))
        loss += step.loss
        grads = {n: grads.get(n, 0) + g for n, g in step.grads.items()}
    assert loss == pytest.approx(whole.loss, rel=1e-12)
    for n, g in whole.grads.items():
        np.testing.assert_allclose(grads[n], g, rtol=1e-8, atol=1e-12)


def test_distilled_labels_count_too():
    """Was: missing. Right: `hard` is the weighted and smoothed loss, ce does not change."""
    teacher, student, batch = distill_cases.pair(*distill_cases.TARGETS["classes"], SMALL)
    losses, counting = md.DistillConfig(), COUNTING["bert-single"]
    plain = md.distill_step(student, teacher, batch, losses)
    step = md.distill_step(student, teacher, batch, losses, counting=counting)
    assert step.parts["ce"] == plain.parts["ce"] and step.parts["hard"] != plain.parts["hard"]
    logits = student.forward(batch["input_ids"], batch["attention_mask"]).logits
    wanted, _ = md.losses.cross_entropy(logits, batch["labels"], -100, WEIGHTS, SMOOTH)
    assert step.parts["hard"] == pytest.approx(wanted, rel=1e-5)


@pytest.mark.parametrize("name", ["bert-mlm", "distilbert-multi", "distilbert-regression",
                                  "bert-spans", "bert-choice", "gpt2-words"])  # fmt: skip
def test_labels_that_are_no_classes(name):
    """Was: missing. Right: refused by name when the objective is made."""
    with pytest.raises(ValueError, match="for labels that are one class of several, not for"):
        Supervised(model_cases.model_of(CASES[name], SMALL), Counting(label_smoothing=0.1))


def test_pairs_are_no_classes():
    """Was: missing. Right: an encoder–decoder's words are no classes, and it is said."""
    model = pair_cases.model_of(next(iter(pair_cases.CASES.values())), pair_cases.SMALL)
    with pytest.raises(ValueError, match="for labels that are one class of several, not for"):
        Supervised(model, Counting(label_smoothing=0.1))


def test_train_takes_them_from_its_config():
    """Was: missing. Right: `md.train` counts labels as its config says, and an objective that was
    made otherwise is refused."""
    batch = model_cases.batch_of(CASES["bert-single"], SMALL)

    class Data:
        def batches(self, epoch):
            return [np.arange(4)]

        def collate(self, indices, *, step, first_sequence=0):
            return batch

    def model():
        return model_cases.model_of(CASES["bert-single"], SMALL, backend="numpy")

    options = TrainConfig(
        steps=1, class_weights=WEIGHTS, label_smoothing=SMOOTH, backend="numpy", seed=3
    )
    found = md.train(model(), Data(), options)
    wanted = model().gradients(batch, True, 3, counting=counting_of(options))
    assert found["loss"] == pytest.approx(wanted.loss, rel=1e-6)
    with pytest.raises(ValueError, match="are not the objective's"):
        md.train(Supervised(model()), Data(), options)


def test_balanced():
    """Was: missing. Right: scikit-learn's compute_class_weight("balanced"), 0 for no label."""

    class Data:
        def batches(self, epoch):
            return [[0], [1]]

        def collate(self, indices, *, step):
            return {"labels": np.array([[0, 0, 0, -100], [2, 0, -100, -100]])[indices]}

    assert balanced(Data(), 3) == (5 / 3 / 4, 0.0, 5 / 3 / 1)


# ---------------------------------------------------------------- on the command line


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    return model_folder(tmp_path_factory.mktemp("classifier"), "text-classification")


def test_finetune(tmp_path, capsys, classifier):
    """Was: missing. Right: stopped by the task's own measure, the best saved, the report says
    so."""
    out = tmp_path / "run"
    found, _ = answer(
        capsys, "finetune", "--model", classifier, "--data", labelled_file(tmp_path / "data.tsv"),
        "--out", out, *QUICK[:4], "--max-length", 16, "--steps", 12, "--eval-every", 1,
        "--patience", 2, "--keep", "best", "--class-weights", "balanced", "--label-smoothing", 0.1,
    )  # fmt: skip
    kept = found["kept"]
    assert kept["measure"] == "accuracy" and kept["why"] == "the best accuracy"
    assert found["evaluation"]["accuracy"] == kept["value"]
    assert found["step"] == kept["step"] + 2 or found["step"] == 12
    assert f"kept: step {kept['step']}, the best accuracy" in (out / "report.html").read_text()
    run = Run(out, resume=True)
    assert len(run.plan["config"]["class_weights"]) == 2
    lines = [line for line in run.metrics() if line.get("evaluation")]
    assert max(line["evaluation"]["accuracy"] for line in lines) == kept["value"]
    weights = (out / "model.safetensors").read_bytes()
    again, _ = answer(capsys, "finetune", "--out", out, "--resume")
    assert again["kept"] == kept and (out / "model.safetensors").read_bytes() == weights


def test_distill(tmp_path, capsys, classifier):
    """Was: missing. Right: each student stops and is kept on its own; without labels the agreement
    with the teacher decides."""
    how = ("--teacher", classifier, *QUICK, "--keep", "best", "--eval-every", 1)
    data = labelled_file(tmp_path / "data.tsv")
    found, _ = answer(capsys, "distill", *how, "--data", data, "--class-weights", "1,2.5", "--out",
                      tmp_path / "labelled")  # fmt: skip
    assert found["kept"]["measure"] == "accuracy" and len(found["models"]) == 4
    found, _ = answer(capsys, "distill", *how, "--data", text_file(tmp_path / "texts.txt"), "--out",
                      tmp_path / "texts")  # fmt: skip
    assert found["kept"]["measure"] == "agreement"


@pytest.mark.parametrize(
    "command, options, message",
    [
        ("finetune", ["--class-weights", "1,2,3"], "must be 2, one a class (bad, good), not 3"),
        ("finetune", ["--measure", "bleu", "--patience", "1"], "measure must be one of loss"),
        ("finetune", ["--class-weights", "much"], "argument --class-weights"),
        ("finetune", ["--problem-type", "regression", "--label-smoothing", "0.1"], "one class of"),
        ("finetune", ["--problem-type", "multi_label_classification", "--class-weights",
                      "balanced"], "one class of several"),
        ("distill", ["--no-labels", "--label-smoothing", "0.1"], "--no-labels leaves unread"),
        ("pretrain", ["--label-smoothing", "0.1"], "unrecognized arguments: --label-smoothing"),
    ],
)  # fmt: skip
def test_refused_before_the_first_step(tmp_path, capsys, classifier, command, options, message):
    """Was: missing. Right: one line, and nothing is left."""
    regression = "regression" in options
    data = labelled_file(tmp_path / "data.tsv", of=("1.5", "2") if regression else ("bad", "good"))
    model = ("--teacher" if command == "distill" else "--model", classifier)
    out = tmp_path / "run"
    line = refused(capsys, command, *model, "--data", data, "--out", out, *QUICK, *options)
    assert message in line and not out.exists()
