"""`compare_loss`: where does a distillation loss differ from the reference, and why?"""

from minidistil.check.call_by_name import roles_of
from minidistil.check.loss_check import PROBLEMS, call, gradients, judge, random_problem, role_of
from minidistil.check.whole_loss import whole_models


def compare_loss(function, student=None, teacher=None, seed=0):
    """Compare a loss  ->  Report.

    student, teacher: folders, for a function of whole models. Raises ValueError for arguments that
    are not recognised.
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
