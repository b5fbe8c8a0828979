"""The known mistakes, by theme. Importing a file enters its mistakes into the catalogue."""

from minidistil.check.mistakes import (  # noqa: F401
    activation,
    attention,
    block,
    embedding,
    head,
    loss,
    norm,
    objectives,
    optimiser,
)
