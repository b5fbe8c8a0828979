"""Memory layouts of a quantity: the arrays that may hold (B,T,C), (B,H,T,T) or (B,K).

An array of a module is converted from every layout that its shape allows; its numbers decide which
one applies. A sample of the entries is compared first, then all of them.
"""

import numpy as np

from minidistil.testing import rms

PLACES = 48
FAR = 1e100  # the largest difference, also of a number and NaN; its square is finite


class Frame:
    """The sizes of a batch and of a model, and the mask of real tokens."""

    def __init__(self, mask, n_heads, dim):
        self.mask, self.H, self.C = mask, n_heads, dim
        self.B, self.T = mask.shape
        self.square = mask[:, None, :, None] & mask[:, None, None, :]

    def mask_of(self, shape):
        """The mask (B,T) of the tokens of a quantity (B,T,·)."""
        return self.mask

    def square_of(self, shape):
        """(B,1,T_q,T_k) bool: whether both tokens of a score (B,H,T_q,T_k) are real."""
        return self.square

    def lengths(self):
        """The numbers of tokens that a quantity may have in a faulty module."""
        return ()

    def has(self, shape):
        """Whether a quantity of this shape may have another number of tokens in a module."""
        return False

    def real(self, x):
        """The entries of a quantity at real tokens, flat."""
        if x.ndim == 3:
            return x[self.mask].ravel()
        if x.ndim == 4:
            return x[np.broadcast_to(self.square, x.shape)]
        return x.ravel()

    def unpadded(self, x):
        """A quantity with zeros at the padding."""
        if x.ndim == 4:
            return x * self.square
        return x * self.mask[:, :, None] if x.ndim == 3 else x

    def rows(self, x):
        """The entries of a quantity at real tokens as rows (N,W): W channels, classes or heads."""
        if x.ndim == 4:
            return x.transpose(0, 2, 3, 1)[self.square[:, 0]]
        return x[self.mask] if x.ndim == 3 else x.reshape(len(x), -1)

    def views(self, x, shape):
        """The array in `shape`, once for each layout that it may have."""
        if len(shape) == 3:
            yield from self._tokens(x, shape[2])
        elif len(shape) == 4:
            yield from self._squares(x)
        elif x.size == np.prod(shape):
            yield x.reshape(shape)
            if x.shape == shape[::-1]:
                yield x.T

    def layout(self, value, exact):
        """The places of a quantity's entries in an array that holds it, in the quantity's shape; or
        None."""
        places = np.arange(value.size).reshape(value.shape)
        best, layout = 1e-2 * rms(self.real(exact)), None
        views = zip(self.views(value, exact.shape), self.views(places, exact.shape), strict=True)
        for view, where in views:
            error = rms(_difference(self.real(view), self.real(exact)))
            if error <= best:
                best, layout = error, where
        return layout

    def laid_out(self, value, exact, d):
        """The cotangent d of a quantity in the layout of an array that holds it; or None."""
        layout = self.layout(value, exact)
        if layout is None:
            return None
        mine = np.zeros(value.size)
        mine[self.real(layout)] = self.real(d)
        return mine.reshape(value.shape)

    def _tokens(self, x, W):
        B, T, H = self.B, self.T, self.H
        if x.size == B * T * W:
            yield from self._whole(x, W)
        elif x.shape[:1] == (int(self.mask.sum()),) and x.size == len(x) * W:
            rows = np.zeros((B, T, W), x.dtype)
            rows[self.mask] = x.reshape(-1, W)
            yield rows
        elif W == self.C and x.size in (2 * B * T * W, 3 * B * T * W):
            n = x.size // (B * T * W)
            if x.shape[0] == n:
                for part in x:
                    yield from self._whole(part, W)
            if x.shape[-1] == n * W:
                apart = x.reshape(*x.shape[:-1], n, W)
                mixed = x.reshape(*x.shape[:-1], H, n, W // H)
                for i in range(n):
                    yield from self._whole(apart[..., i, :], W)
                    yield from self._whole(np.ascontiguousarray(mixed[..., i, :]), W)

    def _whole(self, x, W):
        B, T, H = self.B, self.T, self.H
        x = x.reshape([n for n in x.shape if n != 1] or [1])
        D = W // H if W % H == 0 else 0
        first = x.shape[0]
        if first in (B, B * T) or x.ndim == 1:
            yield x.reshape(B, T, W)
        if first in (T, B * T):
            yield x.reshape(T, B, W).swapaxes(0, 1)
        if x.shape == (B, W, T):
            yield x.swapaxes(1, 2)
        if x.shape in ((W, B, T), (W, B * T)):
            yield x.reshape(W, B, T).transpose(1, 2, 0)
        if not D:
            return
        if x.shape in ((B, H, T, D), (B * H, T, D)):
            yield x.reshape(B, H, T, D).transpose(0, 2, 1, 3).reshape(B, T, W)
        if x.shape in ((B, H, D, T), (B * H, D, T)):
            yield x.reshape(B, H, D, T).transpose(0, 3, 1, 2).reshape(B, T, W)
        if x.shape in ((H, B, T, D), (H * B, T, D), (H, B * T, D)):
            yield x.reshape(H, B, T, D).transpose(1, 2, 0, 3).reshape(B, T, W)
        if x.shape in ((H, B, D, T), (H * B, D, T)):
            yield x.reshape(H, B, D, T).transpose(1, 3, 0, 2).reshape(B, T, W)
        if x.shape == (T, H, B, D):
            yield x.transpose(2, 0, 1, 3).reshape(B, T, W)
        if x.shape == (H, T, B, D):
            yield x.transpose(2, 1, 0, 3).reshape(B, T, W)

    def _squares(self, x):
        B, T, H = self.B, self.T, self.H
        if x.size != B * H * T * T:
            return
        if x.shape in ((B, H, T, T), (B * H, T, T)):
            yield x.reshape(B, H, T, T)
        if x.shape in ((H, B, T, T), (B * H, T, T)):
            yield x.reshape(H, B, T, T).swapaxes(0, 1)
        if x.shape == (B, T, H, T):
            yield x.swapaxes(1, 2)
        if x.shape == (B, T, T, H):
            yield x.transpose(0, 3, 1, 2)


class IndexMap:
    """An index of the arrays of one run of a module, searched by value."""

    def __init__(self, frame, recorded):
        self.frame, self.recorded, self.kinds = frame, recorded, {}

    def kind(self, shape):
        """(sampled places, array number of each view, the views, their values at the places)."""
        if shape not in self.kinds:
            where = np.arange(int(np.prod(shape))).reshape(shape)
            where = self.frame.real(where)
            rng = np.random.default_rng(0)
            few = rng.choice(where, min(PLACES, len(where)), replace=False)
            places = np.unravel_index(few, shape)
            views = [
                (number, view)
                for number, s in enumerate(self.recorded)
                for view in self.frame.views(s.value, shape)
            ]
            probes = np.array([view[places] for _, view in views]).reshape(len(views), len(few))
            owners = np.array([number for number, _ in views], int)
            self.kinds[shape] = places, owners, [view for _, view in views], probes
        return self.kinds[shape]

    def match(self, value, tolerance):
        """(number of the first array that holds this quantity, its relative error), or (None, inf).

        tolerance: relative to the rms of the quantity. NaN equals NaN.
        """
        places, owners, views, probes = self.kind(value.shape)
        if not views:
            return None, float("inf")
        wanted, real = value[places], self.frame.real(value)
        size = max(rms(real[np.isfinite(real)]), 1e-30)
        off = _difference(probes, wanted)
        near = np.flatnonzero(np.nanmax(off, axis=1, initial=0) <= 30 * tolerance * size)
        for i in near:
            error = rms(_difference(self.frame.real(views[i]), real)) / size
            if error <= tolerance:
                return int(owners[i]), error
        return None, float("inf")

    def nearest(self, value, after=-1):
        """(number, relative error, view) of the array nearest to a quantity, or None."""
        places, owners, views, probes = self.kind(value.shape)
        later = np.flatnonzero(owners > after)
        if not len(later):
            return None
        wanted = value[places]
        off = (_difference(probes[later], wanted) ** 2).mean(axis=1)
        i = later[int(np.argmin(off))]
        real = self.frame.real(value)
        error = rms(_difference(self.frame.real(views[i]), real)) / max(rms(real), 1e-30)
        return int(owners[i]), error, views[i]


def _difference(a, b):
    """|a − b|, 0 where both are NaN or the same infinity, FAR where one alone is."""
    with np.errstate(invalid="ignore"):
        off = np.abs(a - b)
    if np.isfinite(off).all():
        return np.minimum(off, FAR)
    alike = (np.isnan(a) & np.isnan(b)) | (a == b)
    return np.where(alike, 0.0, np.minimum(np.nan_to_num(off, nan=FAR), FAR))
