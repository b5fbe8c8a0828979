"""Comparison with other implementations: the first difference, and the mistake behind it."""

from minidistil.check.compare import compare
from minidistil.check.compare_loss import compare_loss
from minidistil.check.compare_trace import compare_trace
from minidistil.check.explain import explain
from minidistil.check.findings import Report
from minidistil.check.optimizer_check import compare_optimizer

__all__ = ["Report", "compare", "compare_loss", "compare_optimizer", "compare_trace", "explain"]
