"""Comparison with other implementations: where one differs, and why."""

from minidistil.check.compare import compare
from minidistil.check.explain import explain
from minidistil.check.loss import compare_loss
from minidistil.check.optimizer import compare_optimizer
from minidistil.check.report import Report

__all__ = ["Report", "compare", "compare_loss", "compare_optimizer", "explain"]
