"""Gradients handed over while the backward is still working.

    backward    head │ block L−1 │ block L−2 │ … │ block 0 │ embeddings
                     ▼           ▼           ▼

Once the backward has passed a layer, nothing changes the gradients of its parameters any more.
`hand_over` gives them at that moment to whatever `receiving` names: to the sum over several
machines (`minidistil.train.gradient_sum`), which then needs no time of its own. Without a receiver
nothing happens.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

_receiver = ContextVar("receiver of gradients", default=None)


@contextmanager
def receiving(receiver: Callable[[Mapping], None]) -> Iterator[None]:
    """Within the block, a backward calls receiver({canonical name: gradient}) layer by layer."""
    token = _receiver.set(receiver)
    try:
        yield
    finally:
        _receiver.reset(token)


def hand_over(grads: Mapping) -> None:
    """Give gradients that are complete to the receiver, if there is one."""
    if (receiver := _receiver.get()) is not None:
        receiver(grads)
