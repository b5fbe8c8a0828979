"""Comparison of a loss of whole models, (student, teacher, batch), and of the teacher's mode."""

import numpy as np

from minidistil.check.call_by_name import arguments
from minidistil.check.findings import Diagnosis
from minidistil.check.loss_check import (
    ATTACHED,
    RELEASED,
    TAU,
    TRAINING,
    Problem,
    judge,
    named_parts,
    role_of,
)
from minidistil.check.peers import transformers_model
from minidistil.check.reference_batch import example, load
from minidistil.ops import backend


def whole_models(function, student, teacher, seed):
    """Call the loss on transformers' models of two folders, in float64  ->  Report.

    Raises ValueError without the two folders.
    """
    if student is None or teacher is None:
        raise ValueError("a loss of whole models needs the folders of a student and of a teacher")
    models = [load(folder) for folder in (student, teacher)]
    twins = [transformers_model(folder).double() for folder in (student, teacher)]
    problems, answers, trained = [], [], []
    twins[1].register_forward_pre_hook(lambda module, args: trained.append(module.training))
    for i in range(3):
        batch = _labelled(models, seed + i)
        problems.append(_problem(models, batch))
        answers.append((_call(function, twins, batch), {}))
    parts = ["ce", "mlm", "cos"] if _same_width(models) else ["ce", "mlm"]
    report = judge(answers, problems, parts, function)
    if any(trained):
        _report_teacher(report, "teacher-in-training-mode", TRAINING, "its `training` was True")
    _backward(answers[0][0])
    if any(p.grad is not None for p in twins[1].parameters()):
        evidence = "its parameters received gradients"
        _report_teacher(report, "teacher-not-detached", ATTACHED, evidence)
    return report


def _same_width(models):
    return len({m.config.architecture.C for m in models}) == 1


def _labelled(models, seed):
    """A batch that both models take, with labels at half of the tokens."""
    batch = example(models[0], None, seed=seed)
    rng, mask = np.random.default_rng(seed), batch["attention_mask"]
    chosen = (rng.random(mask.shape) < 0.5) & (mask == 1)
    chosen[:, 0] = True
    batch["labels"] = np.where(chosen, batch["input_ids"], -100)
    batch.pop("token_type_ids", None)
    return batch


def _problem(models, batch):
    """The reference's logits and hidden states of both models, in float64  ->  Problem."""
    ids, mask = batch["input_ids"], batch["attention_mask"]
    outs = [m.with_ops(backend("numpy", "float64")).forward(ids, mask) for m in models]
    s, t = outs
    return Problem(
        s.logits, t.logits, batch["labels"], mask == 1, s.last_hidden_state, t.last_hidden_state
    )


def _call(function, twins, batch):
    import torch

    for twin in twins:
        twin.eval()
    offers = {
        "student": twins[0], "teacher": twins[1], "temperature": TAU,
        "batch": {name: torch.tensor(x) for name, x in batch.items()},
        **{f"alpha_{part}": weight for part, weight in RELEASED.items()},
    }  # fmt: skip
    given = arguments(function, offers, role_of)
    torch.manual_seed(0)
    try:
        return named_parts(function(**given))
    except Exception as error:
        raise ValueError(f"the loss fails: {type(error).__name__}: {error}") from error


def _backward(parts):
    import torch

    for loss in parts.values():
        if torch.is_tensor(loss) and loss.requires_grad:
            loss.backward(retain_graph=True)


def _report_teacher(report, id, message, evidence):
    """Put a mistake in the use of the teacher first: it may be the cause of a wrong value."""
    found = Diagnosis(id, message, report.rows[0].where, evidence)
    report.diagnosis = [found, *(d for d in report.diagnosis if id == "teacher-not-detached")]
    report.first_difference = report.first_difference or "teacher"
    report.verdict, report.where = "differ", found.where
