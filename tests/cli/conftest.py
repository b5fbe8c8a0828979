"""The tiny world that the commands' tests share."""

from cli_world import world
from row_world import row

__all__ = ["row", "world"]
