"""What is wrong with a recorded run, whether or not its numbers are right: races, missing barriers,
accesses out of bounds, shared memory read before it is written, and access that wastes bandwidth.

A warp of 32 threads executes one instruction at a time. Global memory serves it in segments of 32
bytes, 8 numbers in float32. Access is *coalesced* if the threads of a warp together use few
segments, which is the case when neighbours in the warp use neighbours in memory.
"""

from collections import defaultdict
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minidistil.ops.runtime.simulator import DivergentBarrierError
from minidistil.puzzles.recorder import (
    Access,
    AtomicError,
    EndlessError,
    IndexTypeError,
    Record,
    Thread,
)

WARP, SEGMENT = 32, 8


class Fault(NamedTuple):
    """A mistake: its kind, one sentence, and the accesses that show it."""

    kind: str
    sentence: str
    accesses: tuple[Access, ...] = ()


WASTES = ("idle threads", "no sharing", "uncoalesced access", "too much shared memory")


def faults(record: Record) -> Iterator[Fault]:
    """The faults that make a result wrong or undefined, the one to repair first in front."""
    yield from out_of_bounds(record)
    yield from stopped(record)
    yield from races(record)
    yield from uninitialised(record)


def wastes(record: Record) -> Iterator[Fault]:
    """The faults that leave a result right and make it slow."""
    yield from unbalanced(record)
    yield from unshared(record)
    yield from uncoalesced(record)


def too_much_shared(record: Record, enough: int) -> Iterator[Fault]:
    """More shared memory than the puzzle needs: a kernel whose need grows with its input."""
    used = max((sum(a.size for a in arrays) for arrays in record.shared.values()), default=0)
    if used > enough:
        yield Fault(
            "too much shared memory",
            f"a block has {used} cells of shared memory, and {enough} are enough; shared memory is "
            "small, so what a block needs must not grow with the input",
        )


def out_of_bounds(record: Record) -> Iterator[Fault]:
    """Accesses outside their array. A device does not check: it reads or destroys other memory."""
    found = [a for a in record.accesses if not a.array.holds(a.cell)]
    if found:
        first, others = found[0], len({a.thread for a in found}) - 1
        extent = " × ".join(map(str, first.array.shape))
        more = f"; threads that do so: {others + 1}" if others else ""
        yield Fault(
            "out of bounds",
            f"{thread(first.thread, record)} {_does(first)} {cell(first)}, and {first.array.name} "
            f"has {extent} cells{_at(first, record)}{more}",
            tuple(found),
        )


def stopped(record: Record) -> Iterator[Fault]:
    """The exception that ended the run."""
    error = record.error
    if isinstance(error, DivergentBarrierError):
        yield Fault(
            "divergent barrier",
            f"{error.waiting} of {error.threads} threads of a block reach a cuda.syncthreads() "
            "that the others never reach; it must stand outside every `if` and loop whose "
            "condition differs between threads",
        )
    elif isinstance(error, EndlessError):
        yield Fault("endless loop", f"{error}; does the loop's variable change?")
    elif isinstance(error, AtomicError):
        yield Fault("atomic", str(error))
    elif isinstance(error, IndexTypeError):
        yield Fault("wrong index", str(error))
    elif error is not None:
        yield Fault("error", f"{type(error).__name__}: {error}{_place(error, record)}")


def races(record: Record) -> Iterator[Fault]:
    """Two threads at one cell, at least one of them writing, with no barrier between."""
    read_and_written = []
    for accesses in _by_cell(record):
        writes = [a for a in accesses if a.writes]
        for one in writes:
            other = next((a for a in accesses if _conflict(a, one)), None)
            if other is None:
                continue
            both = [a for a in writes if _conflict(a, one)]
            if both:
                yield Fault("race", _both_write(one, both, record), (one, *both))
                return
            read_and_written.append((other, one))
    for reader, writer in read_and_written[:1]:
        yield Fault("missing barrier", _unordered(reader, writer, record), (reader, writer))


def uninitialised(record: Record) -> Iterator[Fault]:
    """Reads of shared cells that no thread has written."""
    written = set()
    for a in record.accesses:
        key = id(a.array), a.cell
        if a.writes:
            written.add(key)
        elif a.array.shared is not None and key not in written and a.array.holds(a.cell):
            yield Fault(
                "uninitialised memory",
                f"{thread(a.thread, record)} reads {cell(a)}, which no thread has written"
                f"{_at(a, record)}; shared memory begins with arbitrary numbers",
                (a,),
            )
            return


def unshared(record: Record) -> Iterator[Fault]:
    """A number that several threads of a block fetch from global memory."""
    readers = defaultdict(dict)
    for a in record.accesses:
        if a.array.shared is None and not a.writes:
            readers[a.thread.block, a.array.name, a.cell].setdefault(a.thread, a)
    most = max(readers.values(), key=len, default={})
    if len(most) > 1:
        a = next(iter(most.values()))
        yield Fault(
            "no sharing",
            f"{len(most)} threads of a block read {cell(a)} from global memory{_at(a, record)}; "
            "let one thread read it and pass it on through shared memory",
            tuple(most.values()),
        )


def unbalanced(record: Record) -> Iterator[Fault]:
    """A thread that fetches much more than its part of what its block reads, and than others."""
    threads = int(np.prod(record.block))
    cells = defaultdict(lambda: defaultdict(set))
    for a in record.accesses:
        if a.array.shared is None and not a.writes:
            cells[a.thread.block, a.array.name][a.thread].add(a.cell)
    for (_, name), shares in cells.items():
        total = len(set().union(*shares.values()))
        busy, share = max(shares.items(), key=lambda item: len(item[1]))
        counts = sorted(map(len, shares.values()), reverse=True) + threads * [0]
        if len(share) > 2 * max(-(-total // threads), counts[threads // 2]):
            yield Fault(
                "idle threads",
                f"{thread(busy, record)} reads {len(share)} of the {total} numbers of {name} that "
                f"its block uses; divide them among its {threads} threads",
            )
            return


def uncoalesced(record: Record) -> Iterator[Fault]:
    """Access of a warp that uses many more segments than its numbers fill."""
    together = defaultdict(list)
    for a in record.accesses:
        if a.array.shared is None and a.array.holds(a.cell):
            warp = a.thread.number // WARP
            together[a.thread.block, warp, a.line, a.array.name, a.writes, a.visit].append(a)
    worst, waste = None, 1
    for accesses in together.values():
        addresses = {int(np.ravel_multi_index(a.cell, a.array.shape)) for a in accesses}
        segments, full = len({x // SEGMENT for x in addresses}), -(-len(addresses) // SEGMENT)
        if segments > max(full + 1, 2 * full - 1) and segments / full > waste:
            worst, waste = (accesses, segments, full), segments / full
    if worst:
        accesses, segments, full = worst
        one, two = accesses[0], next(a for a in accesses if a.cell != accesses[0].cell)
        first, second = (f"{thread(a.thread, record)} {_does(a)} {cell(a)}" for a in (one, two))
        verb = "write" if one.writes else "read"
        yield Fault(
            "uncoalesced access",
            f"{first} while {second}{_at(one, record)}: the warp's {verb} uses {segments} segments "
            f"of {SEGMENT} numbers, and {full} would do; let neighbouring threads use neighbouring "
            "cells of the last axis",
            tuple(accesses),
        )


# ------------------------------------------------------- accesses that belong together


def _by_cell(record):
    cells = defaultdict(list)
    for a in record.accesses:
        if a.array.holds(a.cell):
            cells[id(a.array), a.cell].append(a)
    return cells.values()


def _conflict(a, b):
    """Whether nothing orders the accesses of two threads. No barrier orders two blocks."""
    if a.thread == b.thread:
        return False
    return a.thread.block != b.thread.block or a.barriers == b.barriers


# ------------------------------------------------------- words


def cell(access: Access) -> str:
    """The name of a cell, as in the kernel."""
    return f"{access.array.name}[{', '.join(map(str, access.cell))}]"


def thread(who: Thread, record: Record) -> str:
    """The name of a thread, with its block if there are several."""
    block = f" of block {_index(who.block, record.grid)}" if np.prod(record.grid) > 1 else ""
    return f"thread {_index(who.index, record.block)}{block}"


def _index(index, extent):
    """(x,y,z), or those of them that the extent names."""
    return str(index[0]) if len(extent) == 1 else str(tuple(map(int, index[: len(extent)])))


def _both_write(one, others, record):
    first = others[0]
    counted = len({a.thread for a in (one, *others)})
    counted = f" ({counted} threads do so)" if counted > 2 else ""
    remedy = "one thread alone may write a cell"
    if first.thread.block != one.thread.block:
        remedy = "nothing orders blocks, so each needs cells of its own"
    return (
        f"{thread(one.thread, record)} and {thread(first.thread, record)} both write {cell(one)}"
        f"{_at(one, record)}{counted}; {remedy}"
    )


def _unordered(reader, writer, record):
    between = "with no cuda.syncthreads() between"
    if reader.thread.block != writer.thread.block:
        between = "and nothing orders blocks"
    return (
        f"{thread(reader.thread, record)} reads {cell(reader)}{_at(reader, record)} and "
        f"{thread(writer.thread, record)} writes it{_at(writer, record)} {between}"
    )


def _place(error, record):
    at, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code is record.code:
            at = trace.tb_lineno
        trace = trace.tb_next
    return "" if at is None else f" ({_quote(record.line(at))})"


def _at(access, record):
    return f" ({_quote(record.line(access.line))})"


def _quote(line):
    return f"line {line.number}: {line.text}" if line.text else f"line {line.number}"


def _does(access):
    return "writes" if access.writes else "reads"
