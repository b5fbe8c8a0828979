"""The left factor of bfloat16 products on AMX, in panels, as a value of its own.

Between two linear layers, GELU's result has one reader, the second product, which rounds it to
bfloat16 and packs it. The first product does both itself: a block of 32 × 32 entries that leaves
its registers is, rounded, one step of a panel of the second one's left factor (`amx_panels.py`).

    lin1:  block (i,j) of C  ──►  GELU  ──►  bfloat16  ──►  step j of panel i  ──►  lin2

The numbers are those that the second product would round, so its result is the same, bit by bit.
What is written, and read again, is half as large, and is contiguous: 2 KB a block.
"""

from dataclasses import dataclass

import numpy as np

from minidistil.ops.kernels.amx_tile import SIDE, TILE
from minidistil.ops.runtime.workspace import aligned


@dataclass(frozen=True)
class PackedRows:
    """Rows (N,I), rounded to bfloat16, in panels of 32. As an array: float32, unpacked."""

    panels: np.ndarray  # (⌈N/32⌉·⌈I/32⌉·2048,) bytes
    shape: tuple[int, int]
    dtype = np.dtype(np.float32)

    def __array__(self, dtype=None, copy=None) -> np.ndarray:
        N, I = self.shape
        bits = self.panels.view(np.uint16).reshape(-1, -(-I // SIDE), SIDE, SIDE)  # (i,j,row,·)
        bits = bits.transpose(0, 2, 1, 3).reshape(-1, bits.shape[1] * SIDE)[:N, :I]
        return (bits.astype(np.uint32) << 16).view(np.float32).astype(dtype or self.dtype)


def empty_rows(shape: tuple[int, int]) -> PackedRows:
    """PackedRows to be filled."""
    N, I = shape
    return PackedRows(aligned(-(-N // SIDE) * -(-I // SIDE) * 2 * TILE), shape)
