"""Where a backward may stop: the parts of a model, from its embeddings up, that are not trained.

    backward    head │ block L−1 │ … │ block k │ block k−1 … embeddings: frozen, not computed

Within `frozen_up_to(1 + k)` a backward computes the gradients of block k and of what is above it;
the parameters below have none. Part 0 is the embeddings, part i+1 is block i.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_frozen = ContextVar("number of frozen parts", default=0)


@contextmanager
def frozen_up_to(parts: int) -> Iterator[None]:
    """Within the block, no backward enters the first so many parts."""
    token = _frozen.set(parts)
    try:
        yield
    finally:
        _frozen.reset(token)


def frozen_parts() -> int:
    """The number of parts that a backward does not enter."""
    return _frozen.get()
