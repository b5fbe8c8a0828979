"""What serves again: memory of the device, and the buffers that copies to it start from."""

import gc

import numpy as np
import pytest

from minidistil.ops.runtime import cuda
from minidistil.ops.runtime.device_memory import LARGEST, RING, FreeList, Ring, manager


class Driver:
    """Hands out addresses, up to a number of bytes."""

    def __init__(self, capacity=1 << 30):
        self.capacity, self.used, self.next, self.freed = capacity, {}, 1 << 20, []

    def allocate(self, size):
        if sum(self.used.values()) + size > self.capacity:
            raise MemoryError
        self.next += 1 << 20
        self.used[self.next] = size
        return self.next

    def free(self, address):
        del self.used[address]
        self.freed.append(address)


def test_memory_serves_the_next_of_its_size():
    driver = Driver()
    idle = FreeList(driver.allocate, driver.free)
    a = idle.take(1000)
    assert idle.take(1000) != a  # nobody has given it back
    idle.give(a, 1000)
    assert idle.take(5000) != a
    assert idle.take(1001) == a  # the same class of sizes
    assert len(driver.used) == 3 and not driver.freed


def test_what_is_kept_makes_room_when_memory_is_short():
    driver = Driver(capacity=4000)
    idle = FreeList(driver.allocate, driver.free)
    idle.give(idle.take(2000), 2000)
    idle.take(2900)
    assert len(driver.freed) == 1
    with pytest.raises(MemoryError):
        idle.take(2900)


@pytest.mark.ptx
def test_memory_returns_when_the_last_view_of_it_is_gone():
    if not cuda.can_compile():
        pytest.skip("needs numba-cuda: pip install 'minidistil[cuda]'")

    class Context:
        pass

    context = Context()
    memory = manager(cuda.module())(context=context)
    memory.initialize()
    driver = Driver()
    memory.free_list = FreeList(driver.allocate, driver.free)
    pointer = memory.memalloc(4096)
    address = int(pointer.device_pointer)
    view = pointer.view(1024, 2048)
    view_of_view = view.view(0, 16)
    del pointer, view
    gc.collect()
    other = memory.memalloc(4096)
    assert int(other.device_pointer) != address
    del view_of_view
    gc.collect()
    assert int(memory.memalloc(4096).device_pointer) == address


class Event:
    def __init__(self):
        self.log = []

    def record(self, stream):
        self.log.append("record")

    def synchronize(self):
        self.log.append("wait")


class FakeCuda:
    """Copies late: at the end, or when an event is waited for."""

    def __init__(self):
        self.pending, self.events = [], []

    def pinned_array(self, shape, dtype):
        return np.empty(shape, dtype)

    def default_stream(self):
        return "the stream"

    def event(self):
        self.events.append(Event())
        return self.events[-1]

    def to_device(self, x, stream=None):
        sent = np.empty_like(x)
        if stream is None:
            sent[...] = x
        else:
            self.pending.append((sent, x))
        return sent

    def run(self):
        for sent, x in self.pending:
            sent[...] = x


def test_a_copy_owns_its_buffer_until_the_device_has_read_it():
    cuda = FakeCuda()
    ring = Ring(cuda)
    given = [np.full((3, k + 1), k, np.int64) for k in range(RING)]
    sent = [ring.send(x) for x in given]
    for x in given:
        x += 100  # what is sent was staged: the host may go on and change its own
    cuda.run()
    for k, x in enumerate(sent):
        np.testing.assert_array_equal(x, np.full((3, k + 1), k))
    assert all(event.log == ["record"] for event in cuda.events)
    ring.send(given[0])
    waited = [event for event in cuda.events if event.log[:2] == ["record", "wait"]]
    assert len(waited) == 1  # for the buffer whose turn it is, and no other


def test_large_and_empty_arrays_are_copied_at_once():
    cuda = FakeCuda()
    ring = Ring(cuda)
    for x in (np.ones(LARGEST // 8 + 1), np.ones((0, 3))):
        np.testing.assert_array_equal(ring.send(x), x)
    assert not cuda.pending
