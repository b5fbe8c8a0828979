"""Where a backend's arrays live, for the code between the ops: on the host, or on the device.

Models, losses and optimisers are the same for every backend. What they do with arrays besides
calling ops is little, and all of it is here.
"""

import numpy as np


class Host:
    """Arrays are NumPy's. dtype: the one that computes; None: whatever it is."""

    def __init__(self, dtype=None):
        self.dtype = dtype

    def freeze(self, x):
        """An array of anybody's  ->  the same in float32, which nobody can write to."""
        frozen = np.ascontiguousarray(x, np.float32)
        ours = not frozen.flags.writeable and frozen.base is None
        if not ours and np.may_share_memory(frozen, x):
            frozen = frozen.copy()  # the caller's own array stays writable, and apart
        frozen.flags.writeable = False
        return frozen

    def send(self, x):
        """Floats, here or elsewhere  ->  the same here, in the dtype that computes."""
        return np.asarray(x if isinstance(x, np.ndarray) else x.copy_to_host(), self.dtype)

    def fetch(self, x):
        """An array of this place  ->  NumPy's."""
        return x

    def number(self, loss):
        """A loss  ->  a float."""
        return float(loss)

    def zeros_like(self, x):
        """An array of this shape, filled with zeros."""
        return np.zeros(x.shape, self.dtype or x.dtype)

    def accumulate(self, a, b):
        """a += b, in place."""
        a += b

    def turned(self, x):
        """x (I,O)  ->  xᵀ (O,I), rows one after another."""
        return np.ascontiguousarray(x.T)

    def stack(self, parts):
        """Arrays (R,…)  ->  one (ΣR,…)."""
        return np.concatenate(parts)

    def scaled(self, x, factor):
        """factor·x, a fresh array."""
        return x * x.dtype.type(factor)


class Device:
    """Arrays are the device's, in float32. `fetch` and `number` wait for it, nothing else does."""

    def freeze(self, x):
        return self.send(x)

    def send(self, x):
        from minidistil.ops.runtime.cuda import floats_to_device

        return floats_to_device(x)

    def fetch(self, x):
        from minidistil.ops.runtime.cuda import to_host

        return to_host(x)

    def number(self, loss):
        return loss if isinstance(loss, float) else float(self.fetch(loss)[0])

    def zeros_like(self, x):
        from minidistil.ops.runtime.cuda import device_zeros

        return device_zeros(x.shape)

    def accumulate(self, a, b):
        from minidistil.ops.runtime.cuda import add_into

        add_into(a, b)

    def turned(self, x):
        return self.send(np.ascontiguousarray(self.fetch(x).T))

    def stack(self, parts):
        return self.send(np.concatenate([self.fetch(part) for part in parts]))

    def scaled(self, x, factor):
        from minidistil.ops.runtime.cuda import scaled

        return scaled(x, factor)


def place_of(backend: str) -> Host | Device:
    """Where the arrays of the backend of this name live."""
    return Device() if backend == "cuda" else Host()
