"""Exclusive lock for one writer at a time, released by the system when its process ends.

The lock is on an open file (POSIX: flock, Windows: its first byte). A killed process may leave the
file behind, but not the lock.
"""

import errno
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WINDOWS = os.name == "nt"
HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}  # by another process
NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class InUseError(BlockingIOError, ValueError):
    """Another process is writing this file or folder. Both an OSError and a ValueError, so that
    callers can treat it as either."""


@contextmanager
def exclusive_lock(place: str | Path, what: Any) -> Iterator[None]:
    """Hold a lock on the file `place`, in an existing folder, for the time of the block.

    Raises InUseError, naming `what`, while another process or thread holds the lock. On a file
    system without locks the block runs unlocked, after a warning.
    """
    handle = _take(place)
    if handle is None:
        raise InUseError(
            f"{what} is in use by another process; wait for its end, or choose another name"
        )
    try:
        yield
    finally:
        if WINDOWS:  # an open file cannot be deleted there
            os.close(handle)
        with suppress(OSError):
            os.unlink(place)
        if not WINDOWS:  # still locked; `_is_at` rejects a handle opened before the deletion
            os.close(handle)


def _take(place):
    """An open handle that holds the lock, or None where another process holds it."""
    while True:
        handle = os.open(place, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            free = _locked(handle, place)
        except BaseException:
            os.close(handle)
            raise
        if free and _is_at(handle, place):
            return handle
        os.close(handle)
        if not free:
            return None


def _locked(handle, place):
    """Lock the file of a handle; False where another process holds the lock."""
    try:
        if fcntl is None:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno not in NO_LOCKS:
            raise
        warnings.warn(
            f"{os.path.dirname(place) or '.'} is on a file system without locks "
            f"({error.strerror}); start nothing else that writes there",
            stacklevel=4,
        )
    return True


def _is_at(handle, place):
    """Whether the handle's file still has this name: the previous holder deletes it on release."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place))
    except FileNotFoundError:
        return False
