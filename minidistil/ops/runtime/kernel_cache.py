"""The disk cache of compiled kernels, which verifies that a file is intact and up to date.

Numba's own cache identifies a kernel by the file that defines it. An edit in a helper of another
file, or an upgrade of the package, leaves the old machine code in use. A damaged entry ends the
program or, if the damage lies within machine code, computes something else. Here a kernel for some
argument types is one file:

    SHA-256 of all that follows │ SHA-256 of the sources │ the compiled kernel, pickled

If the first 32 bytes do not match, the file is damaged: a line on stderr reports it, and the kernel
is compiled again. If the sources differ, it is compiled again silently. Nothing is unpickled before
both match. A file is written under another name and renamed, so that processes can share a folder.

Kernels are written to the first of these folders that is writable, and read from all of them:

    NUMBA_CACHE_DIR, where it is set │ the user's cache folder │ a private folder among the
    temporary files

None is inside the package: an uninstallation removes only files that were installed, and a folder
that keeps others would still be importable.
"""

import functools
import hashlib
import os
import pickle
import sys
import tempfile
import uuid
from contextlib import suppress
from pathlib import Path

import llvmlite
import numba
from numba.core import config
from numba.core.caching import NullCache
from numba.core.compiler import CompileResult
from numba.core.serialize import dumps
from numba.misc.appdirs import AppDirs

from minidistil.ops.runtime.machine_code import team_flag

OPS = Path(__file__).resolve().parent.parent
DIGEST = 32  # bytes of a SHA-256
SETTINGS = (
    "OPT",
    "LOOP_VECTORIZE",
    "SLP_VECTORIZE",
    "BOUNDSCHECK",
)  # of Numba that change the code


class KernelCache(NullCache):
    """The cache of one Numba dispatcher: loads and saves its compiled kernels."""

    def __init__(self, function):
        self._function = function
        self._sources = sources(function.__code__.co_filename)

    @property
    def cache_path(self):
        """The first folder."""
        return next(_folders(), None)

    def load_overload(self, sig, target_context):
        """The kernel for these argument types, or None."""
        name = self._name(sig, target_context.codegen())
        for folder in _folders() if self._sources else ():
            kernel = self._read(folder / name)
            if kernel is not None:
                target_context.refresh()
                team_flag()  # compiles the function that the machine code calls
                return CompileResult._rebuild(target_context, *pickle.loads(kernel))
        return None

    def save_overload(self, sig, compiled):
        """Saves a kernel to the first writable folder."""
        if not self._sources:
            return
        if compiled.library.has_dynamic_globals:
            raise TypeError(f"{self._function} holds an address of this process; pass it")
        rest = self._sources + dumps(compiled._reduce())
        content = hashlib.sha256(rest).digest() + rest
        name = self._name(sig, compiled.codegen)
        if not any(_write(folder, name, content) for folder in _folders(make=True)):
            _say_that_nothing_is_kept()

    def _read(self, path):
        """The pickled kernel in a file; None if there is none, or it has other sources."""
        try:
            content = path.read_bytes()
        except OSError:  # missing, or not readable for this user
            return None
        whole, rest = content[:DIGEST], content[DIGEST:]
        if hashlib.sha256(rest).digest() != whole:
            print(f"{path} is damaged; this kernel is compiled anew", file=sys.stderr)
            return None
        return rest[DIGEST:] if rest[:DIGEST] == self._sources else None

    def _name(self, sig, codegen):
        """The file name: function, argument types, processor, Python and Numba's settings."""
        settings = [str(getattr(config, name)) for name in SETTINGS]
        key = repr((str(sig), codegen.magic_tuple(), sys.implementation.cache_tag, settings))
        name = f"{self._function.__module__}.{self._function.__qualname__}"
        return f"{name.replace('<', '').replace('>', '')}-{_hex(key)}.kernel"


@functools.cache
def sources(file):
    """SHA-256 of all sources of the machine code; empty in a notebook, where `file` is no file."""
    digest = hashlib.sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    for path in [*sorted(OPS.rglob("*.py")), Path(file)]:
        if not path.is_file():
            return b""
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()


def _hex(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _folders(make=False):
    """The folders of kernels in order of preference. Several installations may share a folder.

    make: whether a missing private folder is created.
    """
    mine = f"minidistil-{_hex(str(OPS))}"
    if config.CACHE_DIR:
        yield Path(config.CACHE_DIR) / mine
    user = Path(AppDirs(appname="minidistil", appauthor=False).user_cache_dir)
    if user.is_absolute():  # it is "~/…" without a home
        yield user / mine
    with suppress(OSError):  # no writable folder for temporary files
        private = Path(tempfile.gettempdir()) / f"minidistil-{_user()}"
        if make and not os.path.lexists(private):
            private.mkdir(mode=0o700)
        if _is_private(private):
            yield private / mine


def _user():
    return os.getuid() if hasattr(os, "getuid") else "kernels"


def _is_private(folder):
    """Whether the folder exists and only this user can write to it: its files are executed, and all
    users of the machine can guess its name."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    found = folder.stat()
    return not hasattr(os, "getuid") or (found.st_uid == os.getuid() and not found.st_mode & 0o022)


def _write(folder, name, content):
    """Writes a file; returns whether it worked. No sync: a file cut off by a crash is damaged."""
    aside = folder / f"{name}.{uuid.uuid4().hex}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        aside.write_bytes(content)
        os.replace(aside, folder / name)
        return True
    except OSError:  # read-only or full: the next folder is tried
        with suppress(OSError):
            aside.unlink()
        return False


@functools.cache
def _say_that_nothing_is_kept():
    """Warns once in a process."""
    tried = ", ".join(map(str, _folders()))
    print(
        f"compiled kernels cannot be kept, so that every run compiles them: none of {tried} can be "
        f"written to; set NUMBA_CACHE_DIR to a folder that can",
        file=sys.stderr,
    )
