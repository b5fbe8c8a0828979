"""The tiny world that the commands' tests share."""

from cli_world import world

__all__ = ["world"]
