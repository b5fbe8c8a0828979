"""Distillation: a student made from its teacher, and the losses that teach it."""

from minidistil.distill.step import DistillConfig, distill_step
from minidistil.distill.student import student_config, student_from

__all__ = ["DistillConfig", "distill_step", "student_config", "student_from"]
