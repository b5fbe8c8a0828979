"""One writer at a time: a lock that ends with the process that holds it.

The lock is on an open file (POSIX: flock, Windows: a lock of its first byte), so the system takes
it back however a process ends. The file itself may stay behind a killed process; it locks nothing.
"""

import errno
import os
import warnings
from contextlib import contextmanager, suppress

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

WINDOWS = os.name == "nt"
HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK}
NOT_HERE = {errno.ENOLCK, errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP}


class InUseError(BlockingIOError, ValueError):
    """What another process is writing: for callers an OSError and bad input at once."""


@contextmanager
def alone(place, what):
    """Hold the lock file `place`, whose folder is there, for the time of the block.

    Raises InUseError, which names `what` is locked, while another process or thread holds it. Where
    a file system has no locks a warning says so and the block runs unlocked.
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
        if not WINDOWS:  # still locked: a process that opens it now finds it deleted below
            os.close(handle)


def _take(place):
    """An open handle with the lock, or None where another has it."""
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
    """Lock the file behind a handle; False where another has it."""
    try:
        if fcntl is None:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            return False
        if error.errno not in NOT_HERE:
            raise
        warnings.warn(
            f"{os.path.dirname(place) or '.'} is on a file system without locks "
            f"({error.strerror}); start nothing else that writes there",
            stacklevel=4,
        )
    return True


def _is_at(handle, place):
    """Whether the handle's file still has that name: its last holder may just have deleted it."""
    try:
        return os.path.samestat(os.fstat(handle), os.stat(place))
    except FileNotFoundError:
        return False
