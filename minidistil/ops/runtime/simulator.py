"""A scheduler for Numba's CUDA simulator: fast, deterministic, with warp primitives.

The stock simulator runs one operating-system thread per CUDA thread and has no shuffles.
`install()` replaces its block manager by a greenlet scheduler (many times faster on kernels with
barriers, the same order every time) and adds shfl_sync, shfl_xor_sync, shfl_down_sync, shfl_up_sync
and syncwarp.

A barrier that some threads never reach, because they wait elsewhere or have returned, raises an
error; a device would hang or read values that are not written yet.

The scheduler replaces private names of the simulator that numba-cuda 0.30 and Numba 0.68 have in
common. It needs `greenlet`, which the extra `test` installs.
"""

import threading

import greenlet
import numpy as np
from numba.cuda.simulator import kernel, kernelapi

WARP = 32
READY, AT_BLOCK_BARRIER, AT_WARP_BARRIER = range(3)


class DivergentBarrierError(RuntimeError):
    """`waiting` of the `threads` of a block are at a barrier that the others never reach."""

    waiting = threads = 0


class _Lane(greenlet.greenlet):
    """One CUDA thread, which holds the indices and barriers that the simulator reads."""

    barriers = 0  # of the block that the thread has passed

    def syncthreads(self):
        self.state = AT_BLOCK_BARRIER
        self.block.hub.switch()
        self.state = READY
        self.barriers += 1

    def _votes(self, value):
        votes = self.block.block_state
        votes[self.threadIdx.x, self.threadIdx.y, self.threadIdx.z] = value
        self.syncthreads()
        seen = votes.copy()
        self.syncthreads()
        return seen

    def syncthreads_count(self, value):
        return int(np.count_nonzero(self._votes(value)))

    def syncthreads_and(self, value):
        return int(self._votes(value).all())

    def syncthreads_or(self, value):
        return int(self._votes(value).any())


class ThreadBlock:
    """Runs the threads of one block; Numba's simulator creates it for each."""

    def __init__(self, function, grid_dim, block_dim, debug):
        self.function, self._block_dim = function, block_dim
        self.block_state = np.zeros(block_dim, np.bool_)

    def run(self, grid_point, *args):
        self.hub = greenlet.getcurrent()
        bx, by, bz = self._block_dim
        index = kernelapi.Dim3(*grid_point)
        self.warp_buffers = [[None] * WARP for _ in range(-(-bx * by * bz // WARP))]
        self.threads = bx * by * bz
        lanes = []
        for z in range(bz):
            for y in range(by):
                for x in range(bx):
                    lane = _Lane(self.function)
                    lane.threadIdx, lane.blockIdx = kernelapi.Dim3(x, y, z), index
                    lane.thread_id, lane.block, lane.state = x + bx * (y + by * z), self, READY
                    lanes.append(lane)
        first = True
        while lanes:
            ready = lanes
            if not first:
                ready = [t for t in lanes if t.state == READY] or self._release(lanes)
            for lane in ready:
                try:
                    lane.switch(*(args if first else ()))
                except Exception as error:
                    where = f"thread {tuple(lane.threadIdx)}, block {tuple(index)}"
                    error.add_note(where)
                    raise
            first = False
            lanes = [t for t in lanes if not t.dead]

    def _release(self, lanes):
        """The threads that a barrier releases: whole warps at a warp barrier, or else the whole
        block. Finished threads no longer take part in barriers."""
        warps = {}
        for lane in lanes:
            warps.setdefault(lane.thread_id // WARP, []).append(lane)
        met = [
            lane
            for w, warp in warps.items()
            if len(warp) == min(WARP, self.threads - w * WARP)
            and all(lane.state == AT_WARP_BARRIER for lane in warp)
            for lane in warp
        ]
        if met:
            return met
        if len(lanes) == self.threads and all(t.state == AT_BLOCK_BARRIER for t in lanes):
            return lanes
        waiting = sorted((t.thread_id, t.state) for t in lanes)
        error = DivergentBarrierError(
            f"divergent barrier: {self.threads - len(lanes)} of {self.threads} threads returned "
            f"before it, these wait (thread, barrier): {waiting}"
        )
        error.waiting, error.threads = len(lanes), self.threads
        raise error


def exchange(value):
    """A value of each lane of the warp  ->  the values of all lanes, and the lane's own number."""
    me = greenlet.getcurrent()
    buffer, lane = me.block.warp_buffers[me.thread_id // WARP], me.thread_id % WARP
    buffer[lane] = value
    me.state = AT_WARP_BARRIER
    me.block.hub.switch()
    seen = list(buffer)
    me.state = AT_WARP_BARRIER
    me.block.hub.switch()
    me.state = READY
    return seen, lane


def _shuffle(source):
    def shfl(self, mask, value, arg):
        seen, lane = exchange(value)
        j = source(lane, arg)
        return seen[j] if 0 <= j < WARP and seen[j] is not None else value

    return shfl


def this_lane() -> greenlet.greenlet:
    """The running thread."""
    return greenlet.getcurrent()


def install() -> None:
    """Installs the scheduler and the warp primitives in Numba's simulator."""

    class Threading:
        Lock = threading.Lock
        current_thread = staticmethod(greenlet.getcurrent)

    kernelapi.threading, kernel.BlockManager = Threading, ThreadBlock
    module = kernelapi.FakeCUDAModule
    module.shfl_sync = _shuffle(lambda lane, arg: arg % WARP)
    module.shfl_xor_sync = _shuffle(lambda lane, arg: lane ^ arg)
    module.shfl_down_sync = _shuffle(lambda lane, arg: lane + arg)
    module.shfl_up_sync = _shuffle(lambda lane, arg: lane - arg)
    module.syncwarp = lambda self, mask=0xFFFFFFFF: exchange(None) and None
