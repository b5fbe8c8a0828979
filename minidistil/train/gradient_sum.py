"""Data parallelism: the sum of a step's gradients over its micro-batches and over all ranks.

A step's batch is M micro-batches, of which rank r of n computes those numbered r, r+n, r+2n, …
Each is weighted by its shares of the batch's means (`minidistil.model.label_counts`), whose
denominators count the labels of all ranks, so the gradient of the batch is a plain sum

    g = Σᵢ gᵢ        i = 0 … M−1

and every rank then takes the same optimiser step. Dropout masks depend on a sequence's number in
the batch, so they are those of one process.

The backward completes the gradients of the last layer first (`minidistil.model.handing_over`).
They are copied into buckets of about BUCKET bytes, ordered from the last layer down to the
embeddings, and each bucket is summed over the ranks as soon as it is full:

    this rank     backward of  block 5 │ block 4 │ block 3 │ …
    the network                        │ bucket 0│ bucket 1│ …

`Allreduced`: local micro-batches are added up first, then a bucket is all-reduced in one
non-blocking operation. Each rank sends 2(n−1)/n of the bytes of g if the MPI library uses a ring
or halving and doubling, which is the least possible. The library chooses the order of additions.
`Ordered`: the bits of one process on any number of ranks. A bucket has one piece for each rank,
and rank r adds up all ranks' piece r in the order of the micro-batches, after which all ranks
gather the pieces. That sends (n−1)/n of the bytes for every micro-batch of a rank, and once more
at the end: as much as `Allreduced` where a rank has one micro-batch.
Sources: Patarasuk & Yuan, "Bandwidth optimal all-reduce algorithms", 2009; Li et al., "PyTorch
Distributed", 2020, §3.2 (buckets in reverse order).
"""

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import cache

import numpy as np

from minidistil.io.ranks import Ranks, world
from minidistil.model.handing_over import receiving
from minidistil.ops import place_of
from minidistil.ops.runtime.workspace import empty

BUCKET = 4 << 20  # bytes: enough for a network's full speed, few enough to begin early
POLL = 1e-4


def gradient_sum(
    objective, config, present: Sequence[bool], frozen: Collection[str] = ()
) -> "LocalSum | Allreduced":
    """The sum of one step. present: for each micro-batch of the batch, whether it is computed.
    frozen: names of parameters whose gradients are left out."""
    ranks = world()
    if ranks.size == 1:
        return LocalSum(config.backend, frozen)
    return (Ordered if config.deterministic else Allreduced)(
        objective.model, frozen, config, present, ranks
    )


@cache
def _carrier():
    """The thread that makes all calls of MPI while a backward is working."""
    return ThreadPoolExecutor(1, "gradient sums")


def carry(operation: Callable, *arrays: np.ndarray) -> Future:
    """Start a non-blocking operation after those started before, and advance it to its end.

    MPI advances an operation only inside its own calls, so a thread tests it every POLL seconds;
    the kernels of the backward run without Python's lock.
    """

    def to_its_end():
        request = operation(*arrays)
        while not request.Test():
            time.sleep(POLL)

    return _carrier().submit(to_its_end)


class LocalSum:
    """One process: gᵢ added up in order."""

    def __init__(self, backend: str, frozen: Collection[str]):
        self.place, self.frozen, self.grads = place_of(backend), frozen, {}

    def receiving(self) -> AbstractContextManager:
        """The context in which a micro-batch's gradients are computed."""
        return nullcontext()

    def add(self, grads: Mapping) -> None:
        """Add the gradients of this rank's next micro-batch; {} if it has none in this round."""
        for name, g in grads.items():
            if name in self.grads:
                self.place.accumulate(self.grads[name], g)
            elif name not in self.frozen:
                self.grads[name] = g

    def result(self) -> dict:
        """{name: gradient of the whole batch}."""
        return self.grads


class Bucket:
    """Consecutive parameters in one array, padded to a multiple of the number of ranks."""

    def __init__(self, shapes: Mapping[str, tuple], size: int):
        ends = np.cumsum([np.prod(shape, dtype=int) for shape in shapes.values()])
        self.flat = empty(int(-(-ends[-1] // size) * size), np.float32)
        self.flat[...] = 0
        parts = zip(shapes.items(), np.split(self.flat[: ends[-1]], ends[:-1]), strict=True)
        self.views = {name: part.reshape(shape) for (name, shape), part in parts}
        self.missing, self.carried = set(), None  # names not yet received; the operation under way
        self.inbox = self.total = None  # `Ordered`: all ranks' pieces (n, piece), their sum (piece)


def buckets(
    params: Mapping[str, np.ndarray], names: Sequence[str], size: int
) -> Iterator[Bucket]:  # fmt: skip
    """Those of the parameters, the last layer's first, BUCKET bytes or more each."""
    shapes, nbytes = {}, 0
    for name in reversed(names):
        shapes[name] = params[name].shape
        nbytes += 4 * params[name].size
        if nbytes >= BUCKET:
            yield Bucket(shapes, size)
            shapes, nbytes = {}, 0
    if shapes:
        yield Bucket(shapes, size)


class Allreduced:
    """n ranks: this rank's micro-batches are added up, then each bucket is all-reduced."""

    def __init__(
        self, model, frozen: Collection[str], config, present: Sequence[bool], ranks: Ranks
    ):  # fmt: skip
        self.ranks, self.place, self.overlap = ranks, place_of(config.backend), config.overlap
        self.names, self.given = [name for name in model.params if name not in frozen], set()
        self.translated = getattr(model, "named", None)  # canonical names -> those of params
        self.buckets = list(buckets(model.params, self.names, ranks.size))
        n = ranks.size
        self.rounds = [present[i : i + n] for i in range(0, len(present), n)]
        self.started = 0
        self._begin()

    def _begin(self):
        """A round: each rank computes one micro-batch."""
        self.started = 0
        for bucket in self.buckets:
            bucket.missing = set(bucket.views)

    def receiving(self) -> AbstractContextManager:
        """The context in which a micro-batch's gradients are computed: they are received layer by
        layer."""
        if not self.overlap or self.translated is None:
            return nullcontext()
        return receiving(lambda grads: self._receive(self.translated(grads)))

    def add(self, grads: Mapping) -> None:
        """Receive what has not been received, which ends the round."""
        self._receive(grads)
        for bucket in self.buckets:
            for name in bucket.missing:
                self.put_nothing(bucket.views[name])
            bucket.missing.clear()
        self._start_full()
        self.end(self.rounds.pop(0))
        self._begin()

    def _receive(self, grads):
        for bucket in self.buckets:
            for name in bucket.missing & grads.keys():
                self.put(bucket.views[name], self.place.fetch(grads[name]))
            bucket.missing -= grads.keys()
        self.given |= grads.keys()
        self._start_full()

    def _start_full(self):
        """Start the full buckets, on all ranks in the same order: that of the buckets."""
        while self.started < len(self.buckets) and not self.buckets[self.started].missing:
            self.start(self.buckets[self.started])
            self.started += 1

    def put(self, view, g):
        """Add an array to this rank's sum."""
        view += g

    def put_nothing(self, view):
        """A parameter without a gradient in this micro-batch."""

    def start(self, bucket):
        """A bucket is full: after the last round it is summed over the ranks."""
        if len(self.rounds) == 1:
            from mpi4py import MPI

            bucket.carried = carry(self.ranks.comm.Iallreduce, MPI.IN_PLACE, bucket.flat)

    def end(self, present):
        """The end of a round."""

    def wait(self):
        """Until everything under way has arrived."""
        for bucket in self.buckets:
            if bucket.carried is not None:
                bucket.carried.result()

    def result(self) -> dict:
        """{name: gradient of the whole batch}, of the parameters that have one on any rank."""
        self.wait()
        given = set().union(*self.ranks.gather(self.given))
        views = {name: view for bucket in self.buckets for name, view in bucket.views.items()}
        return {name: self.place.send(views[name]) for name in self.names if name in given}


class Ordered(Allreduced):
    """n ranks: every micro-batch's gradients are added in order, a piece of a bucket by a rank."""

    def put(self, view, g):
        view[...] = g

    def put_nothing(self, view):
        view[...] = 0

    def start(self, bucket):
        if bucket.inbox is None:
            bucket.inbox = empty((self.ranks.size, bucket.flat.size // self.ranks.size))
        bucket.carried = carry(self.ranks.comm.Ialltoall, bucket.flat, bucket.inbox)

    def end(self, present):
        """Add the pieces of this round's micro-batches, which are those of ranks 0, 1, …"""
        self.wait()
        for bucket in self.buckets:
            for piece, there in zip(bucket.inbox, present, strict=False):
                if there and bucket.total is None:
                    bucket.total = piece.copy()
                elif there:
                    bucket.total += piece

    def result(self) -> dict:
        for bucket in self.buckets:
            bucket.carried = carry(self.ranks.comm.Iallgather, bucket.total, bucket.flat)
        return super().result()
