"""Distillation: students from teachers, and the losses that a student learns from its teacher by.

Start at `triple_loss.py`, the loss of DistilBERT; `step.py` is one step with it, `student.py` makes
the student, and `objectives/` holds the losses of other tasks and of single layers.
"""

from minidistil.distill.distill_config import DistillConfig
from minidistil.distill.step import distill_step
from minidistil.distill.student import student_config, student_from

__all__ = ["DistillConfig", "distill_step", "student_config", "student_from"]
