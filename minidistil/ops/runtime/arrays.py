"""Where a backend's arrays live, the host or the device, for the code between the ops.

Models, losses and optimisers are the same for every backend. The few things that they do with
arrays besides calling ops are here.
"""

from typing import Any

import numpy as np

from minidistil.ops.runtime.workspace import owns_memory


class Host:
    """NumPy's arrays. dtype: the dtype that computes; None: the dtype of each array."""

    def __init__(self, dtype: Any = None):
        self.dtype = dtype

    def freeze(self, x: np.ndarray) -> np.ndarray:
        """Any array  ->  a read-only float32 array of the same numbers."""
        frozen = np.ascontiguousarray(x, np.float32)
        ours = not frozen.flags.writeable and owns_memory(frozen)
        if not ours and np.may_share_memory(frozen, x):
            frozen = frozen.copy()  # the caller's array stays writable, and separate
        frozen.flags.writeable = False
        return frozen

    def send(self, x: Any) -> np.ndarray:
        """Floats of the host or the device  ->  the same here, in the dtype that computes."""
        return np.asarray(x if isinstance(x, np.ndarray) else x.copy_to_host(), self.dtype)

    def fetch(self, x: np.ndarray) -> np.ndarray:
        """An array of this place  ->  NumPy's."""
        return x

    def number(self, loss: Any) -> float:
        """A loss  ->  a float."""
        return float(loss)

    def zeros_like(self, x: np.ndarray) -> np.ndarray:
        """An array of this shape, filled with zeros."""
        return np.zeros(x.shape, self.dtype or x.dtype)

    def accumulate(self, a: np.ndarray, b: np.ndarray) -> None:
        """a += b, in place."""
        a += b

    def transposed(self, x: np.ndarray) -> np.ndarray:
        """x (I,O)  ->  xᵀ (O,I), in C order."""
        return np.ascontiguousarray(x.T)

    def stack(self, parts: list[np.ndarray]) -> np.ndarray:
        """Arrays (R,…)  ->  one (ΣR,…)."""
        return np.concatenate(parts)

    def scaled(self, x: np.ndarray, factor: float) -> np.ndarray:
        """factor·x, a fresh array."""
        return x * x.dtype.type(factor)


class Device:
    """The device's arrays, in float32. Only `fetch` and `number` wait for the device."""

    def freeze(self, x: Any) -> Any:
        return self.send(x)

    def send(self, x: Any) -> Any:
        from minidistil.ops.runtime.cuda import floats_to_device

        return floats_to_device(x)

    def fetch(self, x: Any) -> np.ndarray:
        from minidistil.ops.runtime.cuda import to_host

        return to_host(x)

    def number(self, loss: Any) -> float:
        return loss if isinstance(loss, float) else float(self.fetch(loss)[0])

    def zeros_like(self, x: Any) -> Any:
        from minidistil.ops.runtime.cuda import device_zeros

        return device_zeros(x.shape)

    def accumulate(self, a: Any, b: Any) -> None:
        from minidistil.ops.runtime.cuda import add_into

        add_into(a, b)

    def transposed(self, x: Any) -> Any:
        return self.send(np.ascontiguousarray(self.fetch(x).T))

    def stack(self, parts: list) -> Any:
        return self.send(np.concatenate([self.fetch(part) for part in parts]))

    def scaled(self, x: Any, factor: float) -> Any:
        from minidistil.ops.runtime.cuda import scaled

        return scaled(x, factor)


def place_of(backend: str) -> Host | Device:
    """The place of a backend's arrays, by its name."""
    return Device() if backend == "cuda" else Host()
