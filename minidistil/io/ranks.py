"""The processes that an MPI launcher started, the ranks, and what they exchange.

    mpirun -n 4 minidistil distill …        four processes, rank 0 to rank 3, that train one student

A launcher sets environment variables in each process that it starts (`LAUNCHERS`), so a process
knows without MPI whether it is one of several. One that is alone never imports mpi4py: it is
`ALONE`, whose methods return what they are given. Every method of several ranks is collective: all
ranks call it, in the same order. Rank 0 alone writes files and prints.
"""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache, wraps
from typing import Any

from minidistil.io.limits import short

LAUNCHERS = (  # (variable with the rank, variable with the number of ranks)
    ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE"),  # Open MPI's mpirun
    ("PMI_RANK", "PMI_SIZE"),  # mpirun of MPICH and Intel MPI, Slurm's srun with PMI-2
    ("PMIX_RANK", ""),  # srun with PMIx, where only MPI knows the number
)


def launched() -> tuple[int, int | None] | None:
    """(rank, number of ranks or None if the launcher leaves it to MPI); None for a process that is
    alone."""
    for rank, size in LAUNCHERS:
        if rank in os.environ:
            ranks = int(os.environ[size]) if size in os.environ else None
            return None if ranks == 1 else (int(os.environ[rank]), ranks)
    return None


@cache
def world() -> "Ranks":
    """All ranks of this run, connected at the first call; `ALONE` without a launcher.

    Raises ValueError where mpi4py is missing, or belongs to another MPI than the launcher.
    """
    place = launched()
    if place is None:
        return ALONE
    rank, size = place
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ValueError(
            f"an MPI launcher started this process as rank {rank}, which needs mpi4py and an MPI "
            f"library ({short(str(error))}); pip install 'minidistil[mpi]', or start it without "
            f"the launcher"
        ) from None
    comm = MPI.COMM_WORLD
    if size is not None and comm.size != size:
        library = MPI.Get_library_version().split("\n")[0].strip("\0 ")
        raise ValueError(
            f"the launcher started {size} ranks, but mpi4py's MPI library ({short(library)}) sees "
            f"{comm.size}: they are of two MPI implementations; use the mpirun of that library"
        )
    return Ranks(comm.rank, comm.size, comm)


class Ranks:
    """Rank `rank` of `size`, and their communicator."""

    def __init__(self, rank: int, size: int, comm: Any = None):
        self.rank, self.size, self.comm = rank, size, comm

    def share(self, items: Sequence) -> list:
        """This rank's items: every `size`-th, from number `rank` on."""
        return list(items[self.rank :: self.size])

    def in_order(self, mine: Sequence) -> list:
        """This rank's part of a list, made from its `share`  ->  the whole list, on all ranks."""
        if self.size == 1:
            return list(mine)
        parts = self.gather(mine)
        longest = max(map(len, parts))
        return [part[i] for i in range(longest) for part in parts if i < len(part)]

    def gather(self, x: Any) -> list:
        """One value of each rank  ->  all of them, on all ranks."""
        return [x] if self.size == 1 else self.comm.allgather(x)

    def first(self, make: Callable) -> Any:
        """make(), called on rank 0 alone, on all ranks."""
        if self.size == 1:
            return make()
        return self.comm.bcast(make() if self.rank == 0 else None)

    def computed(self, make: Callable, items: Sequence) -> Iterator:
        """Yields make(item) of all items in order, on rank 0; each is computed by one rank. The
        other ranks iterate too, and get nothing."""
        for start in range(0, len(items), self.size):
            mine = [make(item) for item in self.share(items[start : start + self.size])]
            if self.size > 1:
                mine = [x for part in self.comm.gather(mine) or () for x in part]
            yield from mine

    def wait(self) -> None:
        """Return when all ranks have called this."""
        if self.size > 1:
            self.comm.Barrier()

    def sharing_cores(self) -> int:
        """The number of ranks, this one included, that run on this rank's cores."""
        if self.size == 1:
            return 1
        from mpi4py import MPI

        mine = _cores()
        theirs = self.comm.Split_type(MPI.COMM_TYPE_SHARED).allgather(mine)
        return sum(bool(mine & cores) for cores in theirs)

    def refuse_differences(self, facts: Mapping[str, Any]) -> None:
        """Raises ValueError, on all ranks, unless {name: value} is the same on all ranks."""
        for rank, theirs in enumerate(everyone := self.gather(dict(facts))):
            for name, value in everyone[0].items():
                if theirs.get(name) != value:
                    raise ValueError(
                        f"all ranks must have the same {name}: rank 0 has {short(value)}, rank "
                        f"{rank} {short(theirs.get(name))}; start all ranks with the same "
                        f"installation, options and data"
                    )


def _cores():
    """The cores that this process may run on; a launcher may bind each rank to its own."""
    if hasattr(os, "sched_getaffinity"):
        return os.sched_getaffinity(0)
    return set(range(os.cpu_count() or 1))


ALONE = Ranks(0, 1)


def by_rank_zero(function: Callable) -> Callable:
    """Decorator of a function that writes: rank 0 alone calls it; None elsewhere."""

    @wraps(function)
    def call(*args, **kwargs):
        return None if world().rank else function(*args, **kwargs)

    return call
