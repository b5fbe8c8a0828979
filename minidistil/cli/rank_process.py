"""The process of one rank: the command runs in a child, so that its end has a line on stderr.

An MPI launcher stops all ranks when one ends with an error, and does not say which. A rank that
fails writes its own line; for one that a signal kills, such as SIGKILL from a kernel that is out of
memory, the parent does. The child leaves without MPI's finalisation, which would wait for the
others; it ends when the parent does, whatever ended that.
"""

import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable

BAD_INPUT, INTERRUPTED = 2, 130  # exit codes
FORWARDED = (signal.SIGINT, signal.SIGTERM)
APART, MOST = 1.0, 5.0  # seconds by which rank n's message waits for that of rank n−1, of rank 0


def name_of_rank(rank: int, size: int | None) -> str:
    """ "rank 1 of 4"."""
    return f"rank {rank}" if size is None else f"rank {rank} of {size}"


def run_as_rank(place: tuple[int, int | None], run: Callable[[], int]) -> int:
    """run() in a child process  ->  its exit code; the name of the rank if a signal killed it.

    place: rank and number of ranks. run: returns an exit code; with 0, or INTERRUPTED, at which all
    ranks arrive together, the process ends as usual.
    """
    if hasattr(os, "fork"):  # Windows has none: there a killed rank is not named
        alive, held_by_parent = os.pipe()
        if child := os.fork():
            os.close(alive)
            return _watch(child, place)
        os.close(held_by_parent)
        os.setpgid(0, 0)  # signals come from the parent alone
        threading.Thread(target=_end_with_parent, args=(alive,), daemon=True).start()
    try:
        code = run()
    except BaseException:
        traceback.print_exc()
        code = 1
    if code not in (0, INTERRUPTED):
        leave(code)
    return code


def stagger(rank: int) -> None:
    """Wait before a message: of ranks that fail alike, rank 0 reports and ends the others."""
    time.sleep(min(rank * APART, MOST))


def leave(code: int) -> None:
    """End this process at once, which makes the launcher end the other ranks."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _watch(child, place):
    for number in FORWARDED:
        signal.signal(number, lambda number, frame: os.kill(child, number))
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        name = signal.Signals(-code).name
        print(
            f"error: {name_of_rank(*place)} was killed by {name}; all ranks stop, and --resume "
            f"continues from the last checkpoint",
            file=sys.stderr,
        )
    leave(128 - code if code < 0 else code)


def _end_with_parent(alive):
    """Waits for the end of the parent, who holds the other end of the pipe."""
    os.read(alive, 1)
    os._exit(1)
