"""Comparison with other implementations: where one differs, and why."""

from minidistil.check.explain import explain

__all__ = ["explain"]
