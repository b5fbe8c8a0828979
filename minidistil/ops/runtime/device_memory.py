"""A pool of device memory, and copies that do not wait for the device.

An allocation by the driver takes many microseconds, and a release waits until the device is idle.
The memory of a deleted array is therefore kept for the next array of its size class. This is safe
while earlier kernels still read it: there is one stream, so work runs in the order of its launch.

A copy to the device first fills a pinned buffer, which the device reads while the host continues.
A few such buffers are used in turn. The host waits for one only if the device has not read it yet.
"""

import ctypes
import weakref
from collections.abc import Callable

import numpy as np

from minidistil.ops.runtime.workspace import size_class

RING = 8  # buffers that take turns
LARGEST = 1 << 22  # bytes of one; larger arrays, such as a model's weights, are copied at once


class FreeList:
    """Addresses of free memory, by size. allocate and free are the driver's."""

    def __init__(self, allocate: Callable[[int], int], free: Callable[[int], None]):
        self.allocate, self.free, self.idle = allocate, free, {}

    def take(self, size: int) -> int:
        """The address of at least `size` free bytes."""
        size = size_class(size)
        if self.idle.get(size):
            return self.idle[size].pop()
        try:
            return self.allocate(size)
        except MemoryError:
            self.clear()  # memory kept for other sizes makes room
            return self.allocate(size)

    def give(self, address: int, size: int) -> None:
        """Returns memory to the pool; size: the one that it was taken for."""
        self.idle.setdefault(size_class(size), []).append(address)

    def clear(self) -> None:
        """Returns all free memory to the driver."""
        for addresses in self.idle.values():
            while addresses:
                self.free(addresses.pop())


def _allocate(size):
    from cuda.bindings import driver

    error, address = driver.cuMemAlloc(size)
    if error == driver.CUresult.CUDA_ERROR_OUT_OF_MEMORY:
        raise MemoryError(f"the device has no {size} bytes left; try smaller batches")
    if error != driver.CUresult.CUDA_SUCCESS:
        raise RuntimeError(f"the device cannot allocate {size} bytes: {error.name}")
    return int(address)


def _free(address):
    from cuda.bindings import driver

    driver.cuMemFree(address)


def manager(cuda):
    """The class of Numba's memory manager, a plugin that allocates every array on the device."""

    class Manager(cuda.HostOnlyCUDAMemoryManager):
        interface_version = 1

        def initialize(self):
            self.free_list = FreeList(_allocate, _free)

        def memalloc(self, size):
            address, idle = self.free_list.take(size), self.free_list
            return cuda.MemoryPointer(
                weakref.proxy(self.context), ctypes.c_void_p(address), size,
                finalizer=lambda: idle.give(address, size),
            )  # fmt: skip

        def get_memory_info(self):
            from cuda.bindings import driver

            _, free, total = driver.cuMemGetInfo()
            return cuda.MemoryInfo(free=free, total=total)

        def get_ipc_handle(self, memory):
            raise NotImplementedError("arrays are not shared with other processes")

        def reset(self):
            super().reset()
            self.free_list.clear()

    return Manager


class Ring:
    """Pinned host buffers for copies to the device, used in turn."""

    def __init__(self, cuda):
        self.cuda, self.turn, self.slots = cuda, 0, [None] * RING
        # Numba's own simulator, unlike numba-cuda's, lacks default_stream.
        self.stream = (cuda.default_stream if hasattr(cuda, "default_stream") else cuda.stream)()

    def send(self, x):
        """x, C-contiguous  ->  the same on the device. Returns before the copy is done."""
        if x.nbytes > LARGEST or not x.nbytes:
            return self.cuda.to_device(x)
        buffer, event = self._next(x.nbytes)
        staged = buffer[: x.nbytes].view(x.dtype).reshape(x.shape)
        staged[...] = x
        sent = self.cuda.to_device(staged, stream=self.stream)
        event.record(self.stream)
        return sent

    def _next(self, nbytes):
        """A buffer that the device has read, and the event to record after its next copy."""
        self.turn = (self.turn + 1) % RING
        slot = self.slots[self.turn]
        if slot is not None:
            slot[1].synchronize()
        if slot is None or slot[0].nbytes < nbytes:
            pinned = self.cuda.pinned_array(size_class(nbytes), np.uint8)
            slot = self.slots[self.turn] = pinned, self.cuda.event()
        return slot
