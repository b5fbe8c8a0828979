"""Comparison of a user's distillation loss with the reference, in value and gradient.

The function is called on a few random problems in float64, with padding and with labels at some of
the tokens. Its arguments are recognised by their names: student_logits, teacher_logits (B,T,V),
labels, attention_mask (B,T), student_hidden, teacher_hidden (B,T,C), temperature and the weights
alpha_ce, alpha_mlm, alpha_cos; or whole models: (student, teacher, batch). It returns a number or a
dict of parts. A sum with fixed weights may use 1 for all parts, or 5, 2 and 1 as DistilBERT does.
"""

from typing import NamedTuple

import numpy as np

from minidistil import losses
from minidistil.check import reference_ops
from minidistil.check.call_by_name import arguments
from minidistil.check.findings import Diagnosis, Report, Row
from minidistil.check.mistakes import mistakes_of
from minidistil.check.record import short
from minidistil.testing import rms

CLOSE = 1e-6
TAU, PROBLEMS = 2.0, 4
OPS = {"ce": "kl_div", "mlm": "cross_entropy", "cos": "cosine", "mse": "mse"}
RELEASED = {"ce": 5.0, "mlm": 2.0, "cos": 1.0, "mse": 1.0}
PARTS = {"ce": ("ce", "kl", "kd", "soft", "distil"), "mlm": ("mlm", "hard", "label", "task"),
         "cos": ("cos",), "mse": ("mse",)}  # fmt: skip
TRAINING = (
    "The teacher runs in training mode: its dropout is on.\n"
    "yours: teacher.train()\nright: teacher.eval()\n"
    "fix: teacher.eval() once; train() of a module that contains the teacher also affects it"
)
ATTACHED = (
    "The loss has gradients with respect to the teacher.\n"
    "yours: logits of the teacher with a graph\nright: logits of the teacher as constants\n"
    "fix: run the teacher under torch.no_grad(), or detach its logits"
)


class Problem(NamedTuple):
    """The inputs of a loss; arrays (B,T,·)."""

    student: np.ndarray
    teacher: np.ndarray
    labels: np.ndarray
    mask: np.ndarray
    student_hidden: np.ndarray
    teacher_hidden: np.ndarray


def random_problem(seed, B=3, T=7, V=13, C=6):
    """Logits far from uniform, padding, labels at about half of the tokens, one of them word 0."""
    rng = np.random.default_rng(seed)
    mask = np.arange(T) < np.array([T, T - 2, T - 3])[:B, None]
    labels = np.where((rng.random((B, T)) < 0.5) & mask, rng.integers(0, V, (B, T)), -100)
    labels[0, 0], labels[1, 1] = 0, 3
    return Problem(
        2 * rng.normal(size=(B, T, V)), 2 * rng.normal(size=(B, T, V)), labels, mask,
        rng.normal(size=(B, T, C)), rng.normal(size=(B, T, C)),
    )  # fmt: skip


def value(part, problem, wrong=None):
    """One part of the loss, by the reference op or by a mistake."""
    f = wrong or reference_ops.RIGHT[OPS[part]]
    with np.errstate(all="ignore"):
        if part == "mlm":
            return float(f(problem.student, problem.labels))
        if part == "cos":
            return float(f(problem.student_hidden, problem.teacher_hidden, mask=problem.mask))
        tau = {"tau": TAU} if part == "ce" else {}
        return float(f(problem.student, problem.teacher, mask=problem.mask, **tau))


def role_of(name):
    """The role of an argument of a loss, by its name; None for an unknown one."""
    lower = name.lower()
    if lower in ("student", "teacher", "batch"):
        return lower
    if "mask" in lower:
        return "attention_mask"
    if lower.startswith("alpha") or lower.startswith("weight"):
        part = next((p for p, words in PARTS.items() if any(w in lower for w in words)), None)
        return f"alpha_{part}" if part else None
    if "temp" in lower or lower in ("tau", "t"):
        return "temperature"
    side = "student" if "stud" in lower or lower.startswith("s_") or lower.endswith("_s") else None
    if "teach" in lower or lower.startswith("t_") or lower.endswith("_t"):
        side = "teacher"
    if side is None:
        return "labels" if "label" in lower or "target" in lower else None
    kind = "hidden" if any(w in lower for w in ("hid", "state", "feat")) else "logits"
    return f"{side}_{kind}"


def call(function, problem, grad=False):
    """Call a user's loss  ->  {"loss" or part: torch scalar}, {role: leaf of the student}."""
    import torch

    leaves = {
        "student_logits": torch.tensor(problem.student, requires_grad=grad),
        "student_hidden": torch.tensor(problem.student_hidden, requires_grad=grad),
    }
    offers = leaves | {
        "teacher_logits": torch.tensor(problem.teacher), "labels": torch.tensor(problem.labels),
        "teacher_hidden": torch.tensor(problem.teacher_hidden),
        "attention_mask": torch.tensor(problem.mask.astype(np.int64)), "temperature": TAU,
        **{f"alpha_{part}": weight for part, weight in RELEASED.items()},
    }  # fmt: skip
    given = arguments(function, offers, role_of)
    try:
        out = function(**given)
    except Exception as error:
        name = getattr(function, "__name__", "the loss")
        raise ValueError(f"{name} fails: {type(error).__name__}: {error}") from error
    return named_parts(out), leaves


def named_parts(out):
    """A returned dict under the reference's names of the parts; a number as {"loss": number}."""
    if not isinstance(out, dict):
        return {"loss": out[0] if isinstance(out, tuple) else out}
    named = {}
    for name, x in out.items():
        lower = str(name).lower()
        part = next((p for p, words in PARTS.items() if any(w in lower for w in words)), "loss")
        named[part] = x
    return named


def judge(answers, problems, parts, function=None):
    """A Report from the answers on several problems: [(parts, leaves), …]."""
    found = {n: np.array([_number(a[n]) for a, _ in answers]) for n in answers[0][0]}
    report = Report("agree")
    for name, mine in found.items():
        if name == "loss":
            truth, diagnosis = _whole(mine, problems, parts)
        else:
            truth = np.array([value(name, p) for p in problems])
            diagnosis = [] if _alike(mine, truth) else _named(name, mine, problems)
        agrees = _alike(mine, truth)
        error = rms(mine - truth) / max(rms(truth), 1e-30)
        report.rows.append(Row(f"loss.{name}", "loss", error, CLOSE, agrees, line_of(function)))
        if not agrees and report.verdict == "agree":
            report.verdict, report.first_difference = "differ", f"loss.{name}"
            report.diagnosis, report.where = diagnosis, line_of(function)
            values = f"it is {_listed(mine)}, expected {_listed(truth)}"
            report.evidence = f"on {len(problems)} random batches {values}"
            for d in report.diagnosis:
                d.where = report.where
    return report


def _number(x):
    return float(x.detach()) if hasattr(x, "detach") else float(x)


def _listed(values):
    return ", ".join(f"{x:.6g}" for x in values)


def line_of(function):
    """The file and line of a function; None for a callable without code."""
    code = getattr(function, "__code__", None)
    if code is None:
        return None
    return f"{short(code.co_filename)}:{code.co_firstlineno} in {code.co_name}"


def _alike(a, b):
    """Whether two losses are equal on every problem; NaN equals NaN."""
    if not np.array_equal(np.isfinite(a), np.isfinite(b)):
        return False
    ok = np.isfinite(a)
    return bool(np.all(np.abs(a[ok] - b[ok]) <= CLOSE * np.maximum(np.abs(b[ok]), 1e-3)))


def _named(part, mine, problems, weight=1.0, rest=0.0):
    """[Diagnosis] of the mistake in one part that reproduces the numbers.

    rest: the weighted sum of the other parts.
    """
    for m in mistakes_of(OPS[part]):
        for form, wrong in m.forms():
            numbers = rest + weight * np.array([value(part, p, wrong) for p in problems])
            if _alike(mine, numbers):
                evidence = f"with it the {part} loss is the same on {len(problems)} random batches"
                return [Diagnosis(m.id, m.message(form), None, evidence)]
    return []


def _whole(mine, problems, parts):
    """(the expected sum, the diagnosis), with DistilBERT's weights, or 1 or ½ for every part."""
    exact = {part: np.array([value(part, p) for p in problems]) for part in parts}
    choices = _weightings(parts)
    sums = [sum(w[part] * exact[part] for part in parts) for w in choices]
    for total in sums:
        if _alike(mine, total):
            return total, []
    for weights, total in zip(choices, sums, strict=True):
        for part in parts:
            rest = total - weights[part] * exact[part]
            if diagnosis := _named(part, mine, problems, weights[part], rest):
                return total, diagnosis
    return sums[min(1, len(parts) - 1)] if len(parts) == 1 else sums[0], []


def _weightings(parts):
    """The weights that a total may have: DistilBERT's, or 1 or ½ for every part."""
    even = [dict.fromkeys(parts, 1.0), dict.fromkeys(parts, 0.5)]
    return [{part: RELEASED[part] for part in parts}, *even]


def gradients(report, function, problem, parts, answer):
    """Add the gradient of each part, with respect to the student, to a report that agrees."""
    import torch

    if report.verdict != "agree":
        return report
    named, leaves = call(function, problem, grad=True)
    for name, loss in named.items():
        if not torch.is_tensor(loss) or not loss.requires_grad:
            report.verdict, report.first_difference = "differ", f"grad.loss.{name}"
            report.evidence = "the loss has no gradient: is it detached, or a Python number?"
            return report
        if name == "loss" and len(parts) > 1:
            _total_gradient(report, loss, leaves, problem, parts)
            continue
        part = parts[0] if name == "loss" else name
        leaf = "student_hidden" if part == "cos" else "student_logits"
        (mine,) = torch.autograd.grad(loss, leaves[leaf], retain_graph=True, allow_unused=True)
        mine = np.zeros(leaves[leaf].shape) if mine is None else mine.numpy()
        scale = _number(loss) / value(part, problem)
        truth = scale * exact_gradient(part, problem)
        error = rms(mine - truth) / max(rms(truth), 1e-30)
        row = Row(f"grad.loss.{name}", "gradient", error, CLOSE, error <= CLOSE, leaf)
        report.rows.append(row)
        if not row.agrees and report.verdict == "agree":
            report.verdict, report.first_difference = "differ", row.name
            report.where = line_of(function)
            report.evidence = f"the value agrees, the gradient of {leaf} has error {error:.1e}"
    return report


def _total_gradient(report, loss, leaves, problem, parts):
    """Add the gradients of a weighted sum of parts, for the weights that give its value."""
    import torch

    for weights in _weightings(parts):
        total = sum(w * value(part, problem) for part, w in weights.items())
        if not _alike(np.array([_number(loss)]), np.array([total])):
            continue
        for leaf, x in leaves.items():
            mine = [part for part in parts if (part == "cos") == (leaf == "student_hidden")]
            if not mine:
                continue
            truth = sum(weights[part] * exact_gradient(part, problem) for part in mine)
            (g,) = torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)
            g = np.zeros(x.shape) if g is None else g.numpy()
            error = rms(g - truth) / max(rms(truth), 1e-30)
            agrees = bool(error <= CLOSE)
            row = Row(f"grad.loss.{leaf}", "gradient", error, CLOSE, agrees, leaf)
            report.rows.append(row)
            if not agrees and report.verdict == "agree":
                report.verdict, report.first_difference = "differ", row.name
                report.evidence = f"the value agrees, the gradient of {leaf} has error {error:.1e}"
        return


def exact_gradient(part, problem):
    """The gradient of one part with respect to the student's logits or hidden states."""
    if part == "mlm":
        return losses.cross_entropy(problem.student, problem.labels)[1]
    if part == "cos":
        return losses.cosine(problem.student_hidden, problem.teacher_hidden, problem.mask)[1]
    if part == "mse":
        return losses.mse(problem.student, problem.teacher, problem.mask, "batchmean")[1]
    return losses.kl_divergence(problem.student, problem.teacher, TAU, problem.mask)[1]
