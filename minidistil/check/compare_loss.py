"""`compare_loss`: value and gradient of a distillation loss against the reference."""

from collections.abc import Callable
from pathlib import Path

from minidistil.check.call_by_name import roles_of
from minidistil.check.findings import Report
from minidistil.check.loss_check import PROBLEMS, call, gradients, judge, random_problem, role_of
from minidistil.check.whole_loss import whole_models


def compare_loss(
    function: Callable,
    student: str | Path | None = None,
    teacher: str | Path | None = None,
    seed: int = 0,
) -> Report:
    """Compare a distillation loss with the reference  ->  Report.

    student, teacher: folders, for a function of (student, teacher, batch). Raises ValueError for
    arguments that are not recognised.
    """
    roles = roles_of(function, role_of)
    if {"student", "teacher"} <= set(roles):
        return whole_models(function, student, teacher, seed)
    problems = [random_problem(seed + i) for i in range(PROBLEMS)]
    answers = [call(function, problem) for problem in problems]
    parts = [p for p, needs in (
        ("ce", "teacher_logits"), ("mlm", "labels"), ("cos", "student_hidden"),
    ) if needs in roles]  # fmt: skip
    report = judge(answers, problems, parts, function)
    return gradients(report, function, problems[0], parts, answers[0])
