"""Memory layouts where a batch has tokens of several lengths: a source and a target, or patches
with and without special tokens. The length in a quantity's shape says which of them it has.
"""

import numpy as np

from minidistil.check.layouts import Frame


class Frames(Frame):
    """The Frames of a batch's token sequences, each of another length."""

    def __init__(self, *parts):
        """parts: Frames; the last is that of the logits."""
        super().__init__(parts[-1].mask, parts[-1].H, parts[-1].C)
        self.parts = {part.T: part for part in parts}

    def mask_of(self, shape):
        part = self.parts.get(shape[1])
        return np.ones(shape[:2], bool) if part is None else part.mask

    def lengths(self):
        return tuple(self.parts)

    def has(self, shape):
        return len(shape) > 2 and set(shape[1:2] if len(shape) == 3 else shape[2:]) <= set(
            self.parts
        )

    def real(self, x):
        if x.ndim == 3:
            return x[self.mask_of(x.shape)].ravel()
        if x.ndim == 4:
            return x[np.broadcast_to(self.square_of(x.shape), x.shape)]
        return x.ravel()

    def rows(self, x):
        if x.ndim == 4:
            square = np.broadcast_to(self.square_of(x.shape), (len(x), 1, *x.shape[2:]))
            return x.transpose(0, 2, 3, 1)[square[:, 0]]
        return x[self.mask_of(x.shape)] if x.ndim == 3 else x.reshape(len(x), -1)

    def unpadded(self, x):
        if x.ndim == 4:
            return x * self.square_of(x.shape)
        return x * self.mask_of(x.shape)[:, :, None] if x.ndim == 3 else x

    def square_of(self, shape):
        queries, keys = (self.mask_of((shape[0], T)) for T in shape[2:])
        return queries[:, None, :, None] & keys[:, None, None, :]

    def views(self, x, shape):
        if len(shape) == 4:
            yield from self._rectangles(x, shape)
        elif len(shape) != 3:
            yield from super().views(x, shape)
        elif shape[1] in self.parts:
            yield from self.parts[shape[1]].views(x, shape)

    def _rectangles(self, x, shape):
        B, H, T_q, T_k = shape
        if x.size != np.prod(shape):
            return
        if x.shape in (shape, (B * H, T_q, T_k)):
            yield x.reshape(shape)
        if x.shape in ((H, B, T_q, T_k), (B * H, T_q, T_k)):
            yield x.reshape(H, B, T_q, T_k).swapaxes(0, 1)
        if x.shape == (B, T_q, H, T_k):
            yield x.swapaxes(1, 2)
        if x.shape == (B, T_q, T_k, H):
            yield x.transpose(0, 3, 1, 2)
