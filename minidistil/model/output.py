"""What a model hands out: an `Output`, a training `Step`, its parameters."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, NamedTuple


class Step(NamedTuple):
    """A loss, what it is made of, and its gradients under the names of `params`."""

    loss: float
    parts: dict
    grads: dict


@dataclass(frozen=True)
class Output:
    """What `Model.forward` hands out; None for what the task does not have or nobody asked for."""

    logits: Any = None  # (B,T,V), (B,T,K), (B,K) or (B,choices)
    start_logits: Any = None  # (B,T)
    end_logits: Any = None  # (B,T)
    seq_relationship_logits: Any = None  # (B,2)
    cls_logits: Any = None  # (B,K), with distillation_logits (B,K): DeiT's two, of which logits
    distillation_logits: Any = None  # are the mean
    last_hidden_state: Any = None  # (B,T,C)
    pooler_output: Any = None  # (B,C)
    hidden_states: Any = None  # L+1 arrays (B,T,C)
    attentions: Any = None  # L arrays (B,H,T,T)
    taps: Any = None  # {name: array}
    loss: Any = None  # float
    kept: Any = None  # for backward

    @property
    def sop_logits(self):
        """seq_relationship_logits, as ALBERT calls them."""
        return self.seq_relationship_logits


def kept_by(out):
    """What a forward has kept for backward, None after keep=False. Raises TypeError for what is no
    output of a forward."""
    if not hasattr(out, "kept"):
        raise TypeError(f"backward takes what forward gave, not a {type(out).__name__}")
    return out.kept


class Kept(NamedTuple):
    """What a forward keeps for `backward`."""

    rows: Any
    result: Any
    cache: Any
    loss_gradient: Any  # Cotangents of the loss, None without labels


class SharedArraysCopy:
    """A model whose copies, shallow or deep, learn apart from it: their dictionaries are their own,
    and arrays are shared, since none is written to."""

    def __copy__(self):
        other = object.__new__(type(self))
        mine = vars(self).items()
        vars(other).update({name: dict(x) if isinstance(x, dict) else x for name, x in mine})
        return other

    def __deepcopy__(self, memo):
        return self.__copy__()


class FetchedArrays(Mapping):
    """{name: NumPy array, read-only}, fetched when asked for from where `arrays` live."""

    def __init__(self, arrays, place):
        self.arrays, self._place = MappingProxyType(arrays), place

    def __getitem__(self, name):
        x = self._place.fetch(self.arrays[name])
        x.flags.writeable = False
        return x

    def __iter__(self):
        return iter(self.arrays)

    def __len__(self):
        return len(self.arrays)
