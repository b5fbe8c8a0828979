"""Ctrl-C during training: the step in progress is finished first."""

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minidistil.io.ranks import world


@contextmanager
def interruptible(wanted: bool) -> Iterator[list]:
    """Yields a list that the first Ctrl-C fills; a second one interrupts at once.

    Without `wanted`, and outside the main thread, signals are left as they are.
    """
    interrupted = []
    if not wanted or threading.current_thread() is not threading.main_thread():
        yield interrupted
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number, frame):
        interrupted.append(number)
        signal.signal(signal.SIGINT, before)
        if world().rank == 0:
            print("\nfinishing this step; Ctrl-C again stops at once", file=sys.stderr)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupted
    finally:
        signal.signal(signal.SIGINT, before)
