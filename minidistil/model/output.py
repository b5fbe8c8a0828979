"""Results of a model: the `Output` of a forward, the `Step` of a training step, parameters."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from itertools import islice
from types import MappingProxyType
from typing import Any, NamedTuple, Self

import numpy as np

from minidistil.io.counts import counted
from minidistil.io.limits import several

SHOWN = 5  # arrays of a mapping that a repr lists


def shapes_in(arrays: Mapping[str, Any]) -> str:
    """A mapping of arrays for a repr: how many, of how many entries, and the first shapes."""
    entries = sum(math.prod(x.shape) for x in arrays.values())
    lines = [f"\n    {name} {tuple(x.shape)}" for name, x in islice(arrays.items(), SHOWN)]
    rest = f"\n    … and {len(arrays) - SHOWN} more" if len(arrays) > SHOWN else ""
    return f"{counted(len(arrays), 'array')} of {entries:,} entries{''.join(lines)}{rest}"


class Step(NamedTuple):
    """A loss, its parts, and its gradients under the names of `params`."""

    loss: float
    parts: dict[str, float]
    grads: dict[str, np.ndarray]

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {float(value):.4f}" for name, value in self.parts.items())
        return f"Step: loss {float(self.loss):.4f} ({parts}), grads {shapes_in(self.grads)}"


@dataclass(frozen=True, repr=False)
class Output:
    """Result of a forward; None for a field that the task does not have or that was not requested.

    DeiT has two classifiers, cls_logits and distillation_logits; logits is their mean.
    """

    logits: np.ndarray | None = None  # (B,T,V), (B,T,K), (B,K) or (B,choices)
    start_logits: np.ndarray | None = None  # (B,T)
    end_logits: np.ndarray | None = None  # (B,T)
    seq_relationship_logits: np.ndarray | None = None  # (B,2)
    cls_logits: np.ndarray | None = None  # (B,K)
    distillation_logits: np.ndarray | None = None  # (B,K)
    last_hidden_state: np.ndarray | None = None  # (B,T,C)
    pooler_output: np.ndarray | None = None  # (B,C)
    hidden_states: tuple[np.ndarray, ...] | None = None  # L+1 arrays (B,T,C)
    attentions: tuple[np.ndarray, ...] | None = None  # L arrays (B,H,T,T)
    taps: dict[str, np.ndarray] | None = None  # {name: array}
    loss: float | None = None
    kept: Any = None  # for backward

    def __repr__(self) -> str:
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "kept"}
        shown = (f"\n    {name} {_shown(x)}" for name, x in given.items() if x is not None)
        return f"Output:{''.join(shown)}"

    @property
    def sop_logits(self) -> np.ndarray | None:
        """ALBERT's name of seq_relationship_logits."""
        return self.seq_relationship_logits


def _shown(value):
    """A field of an Output for its repr: shapes instead of arrays."""
    if isinstance(value, tuple):
        return f"{counted(len(value), 'array')} {value[0].shape}" if value else "no array"
    if isinstance(value, dict):
        return several(f"{name} {x.shape}" for name, x in value.items())
    return value.shape if hasattr(value, "shape") and value.shape else f"{value:.4f}"


def kept_by(out: Any) -> Any:
    """The values that a forward kept for backward, None after keep=False. Raises TypeError where
    `out` is not the output of a forward."""
    if not hasattr(out, "kept"):
        raise TypeError(f"backward takes what forward gave, not a {type(out).__name__}")
    return out.kept


class Kept(NamedTuple):
    """Values that a forward keeps for its backward."""

    rows: Any
    result: Any
    cache: Any
    loss_gradient: Any  # Cotangents of the loss, None without labels


class SharedArraysCopy:
    """Makes copies, shallow or deep, that can be trained apart from the original: a copy has its
    own dictionaries and shares the arrays, which are never written to. Its repr has no arrays."""

    def __repr__(self) -> str:
        kind, where = self.config.model_type, f"{self.dtype} on {self.ops.name}"
        params = shapes_in(self._params)
        return f"{type(self).__name__}: {kind} for {self.task}, {where}, params {params}"

    def __copy__(self) -> Self:
        other = object.__new__(type(self))
        mine = vars(self).items()
        vars(other).update({name: dict(x) if isinstance(x, dict) else x for name, x in mine})
        return other

    def __deepcopy__(self, memo: dict) -> Self:
        return self.__copy__()


class FetchedArrays(Mapping):
    """{name: read-only NumPy array}; an item is fetched from the backend's memory on access."""

    def __init__(self, arrays: Mapping[str, Any], place: Any) -> None:
        self.arrays, self._place = MappingProxyType(arrays), place

    def __getitem__(self, name: str) -> np.ndarray:
        x = self._place.fetch(self.arrays[name])
        x.flags.writeable = False
        return x

    def __iter__(self) -> Iterator[str]:
        return iter(self.arrays)

    def __len__(self) -> int:
        return len(self.arrays)

    def __repr__(self) -> str:
        return shapes_in(self.arrays)
