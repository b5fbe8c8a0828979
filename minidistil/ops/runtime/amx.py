"""AMX, the matrix unit of Intel's server processors: whether this process may use it.

Two conditions hold at run time: the processor has the instructions, and Linux grants their state
(8 KB of registers that a context switch has to save). A process asks for it once. Threads that
exist already are included, and so is the child of a fork; without the grant, the first tile
instruction ends the process.

`MINIDISTIL_AMX=0` in the environment switches AMX off, for results that are equal bit by bit on
machines with it and without: sums run in another order there.
"""

import ctypes
import functools
import os
import platform
import sys
from contextlib import contextmanager
from contextvars import ContextVar

from minidistil.ops.runtime.cpu import FEATURES

VARIABLE = "MINIDISTIL_AMX"
NEEDED = {"+amx-tile", "+amx-bf16", "+amx-int8"}
WIDEST = {"+avx512f": "AVX-512", "+avx2": "AVX2", "+neon": "NEON", "+sse2": "SSE2"}
ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA = 158, 0x1023, 18  # Linux's numbers on x86-64

_off = ContextVar("amx_off", default=False)
_used = ContextVar("instructions_used", default=None)


def in_use() -> bool:
    """Whether matrix products run on AMX now."""
    return not (_off.get() or refusal())


def instructions() -> str:
    """What matrix products run on now: "AMX", or the vector instructions."""
    return "AMX" if in_use() else vectors()


def vectors() -> str:
    """The widest vector instructions of the processor: "AVX-512", "AVX2", …"""
    return next((name for feature, name in WIDEST.items() if feature in FEATURES), "other")


@contextmanager
def observed():
    """`with observed() as used:` collects in a set what products ran on meanwhile."""
    used = set()
    token = _used.set(used)
    try:
        yield used
    finally:
        _used.reset(token)


def note(name: str) -> None:
    """Adds the instructions of a product that runs to those of `observed`."""
    used = _used.get()
    if used is not None:
        used.add(name)


@contextmanager
def without_amx(off: bool = True):
    """`with without_amx():` matrix products use the vector instructions that any machine has."""
    token = _off.set(off)
    try:
        yield
    finally:
        _off.reset(token)


@functools.cache
def refusal() -> str:
    """Why this process has no AMX; empty where it has. Asks Linux at the first call."""
    if os.environ.get(VARIABLE, "1") == "0":
        return f"{VARIABLE}=0"
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return "AMX needs Linux on x86-64"
    if not NEEDED <= FEATURES:
        return "the processor has no AMX"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ARCH_PRCTL, REQUEST_PERMISSION, TILE_DATA):
        return f"Linux refuses AMX: {os.strerror(ctypes.get_errno())}"
    return ""
