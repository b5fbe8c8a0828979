"""Comparison with other implementations: where one differs, and why."""

from minidistil.check.compare import compare
from minidistil.check.explain import explain
from minidistil.check.report import Report

__all__ = ["Report", "compare", "explain"]
