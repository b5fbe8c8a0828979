"""Base class of the families' configs, and `Architecture`, the family-independent description that
the encoder and the decoder compute from: the sizes in the letters of the dimension key, and the
options in which the families differ.
"""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType
from typing import Any, Self

from minidistil.config.known_fields import (
    FIXED_EVERYWHERE,
    by_own_names,
    check_fixed,
    class_names,
    token_ids,
)
from minidistil.io.limits import short

LARGEST_SIZE, MOST_LAYERS, MOST_LABELS = 2**31 - 1, 2**12, 2**18
FLOAT32 = 3.4028234663852886e38  # the largest finite float32
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
# quantization_config of a folder with int8 matrices; no other method is supported.
QUANTIZATION = {
    "quant_method": "minidistil",
    "bits": 8,
    "weights": "int8, symmetric, a scale for each row: x.weight = x.weight_scale * int8",
    "activations": "256 whole numbers that hold 0, and a scale, for each row, found at run time",
}
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class Architecture:
    """Sizes and options of one encoder or decoder, in the letters of the dimension key."""

    V: int  # vocabulary
    P: int  # positions
    C: int  # channels
    H: int  # heads
    F: int  # feed-forward channels
    L: int  # layers
    types: int  # token types; 0 where the family has none
    eps: float  # LayerNorm's ε
    activation: str
    dropout: float  # after the embeddings and inside the blocks
    attention_dropout: float  # on the attention weights
    drops_attention_output: bool  # dropout on attention's output projection: BERT; not DistilBERT
    pooler_activation: str  # of the classifier's first layer
    classifier_dropout: float  # on the input of a sequence classifier's last layer
    choice_dropout: float  # on the input of multiple choice's last layer
    token_dropout: float  # on the input of a token classifier's last layer
    span_dropout: float = 0.0  # on the input of the start and end layer; DistilBERT alone
    transform_activation: str = "gelu"  # of the masked-LM head's first layer
    padding_position: int | None = None  # RoBERTa: positions start behind this id; see `rows`
    E: int | None = None  # ALBERT: channels of the embeddings, mapped to C; None: C, unmapped
    shared: tuple | None = None  # ALBERT: the block whose parameters layer i uses; None: block i
    drops_ffn_output: bool = True  # dropout on the feed-forward's output; not ALBERT
    causal: bool = False  # GPT-2's block, with a causal mask
    embedding_dropout: float = 0.0  # GPT-2: on the embeddings; an encoder uses `dropout`
    cross_attends: bool = False  # decoder of an encoder–decoder: causal, with cross attention

    @property
    def width(self) -> int:
        """Channels of the embeddings and of the masked-LM head: E, or C without E."""
        return self.C if self.E is None else self.E

    @property
    def blocks(self) -> tuple:
        """L numbers: the block whose parameters layer i uses."""
        return tuple(range(self.L)) if self.shared is None else self.shared

    @property
    def first_position(self) -> int:
        """The row of the position table that a sequence's first token uses."""
        return 0 if self.padding_position is None else self.padding_position + 1

    @property
    def longest(self) -> int:
        """The largest number of tokens of a sequence."""
        return self.P - self.first_position


def plain(value: Any) -> Any:
    """Convert a number of another library to int or float; return any other value unchanged."""
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


class BaseConfig:
    """Base class of the families' configs. A subclass adds its fields and the property
    `architecture`.

    Raises ValueError for sizes that make no model and for options that this package does not
    implement.
    """

    # Values of fields that config.json omits, where transformers' default differs from this class'
    transformers_defaults = MappingProxyType({})
    common_names = MappingProxyType({})  # {transformers' common name of a field: this family's own}
    fixed_options = MappingProxyType({})  # {option of the family: the one value implemented here}

    def __post_init__(self) -> None:
        self.check_fields()
        a = self.architecture
        if a.L > MOST_LAYERS:
            raise ValueError(f"config: at most {MOST_LAYERS} layers, not {a.L}")
        for letter in "VPCHFL":
            if getattr(a, letter) < 1:
                raise ValueError(f"config: every size must be at least 1, {letter} is "
                                 f"{getattr(a, letter)}")  # fmt: skip
        if a.longest < 1:
            raise ValueError(
                f"max_position_embeddings {a.P} leaves no position behind pad_token_id "
                f"{a.padding_position}; give at least {a.padding_position + 2}"
            )
        if a.C % a.H:
            raise ValueError(f"dim {a.C} does not split into n_heads {a.H} equal heads")
        if a.activation not in ACTIVATIONS:
            raise ValueError(
                f"activation must be one of {', '.join(ACTIVATIONS)}, not {a.activation!r}"
            )
        if not 1 <= self.num_labels <= MOST_LABELS:
            raise ValueError(
                f"config: num_labels must be at least 1 and at most {MOST_LABELS}, not "
                f"{self.num_labels}"
            )
        for name, value in (("eps", a.eps), ("initializer_range", self.initializer_range)):
            if not 0 <= value <= FLOAT32:
                raise ValueError(
                    f"config: {name} must be at least 0 and at most {FLOAT32:.3g}, not {value}"
                )
        if self.problem_type is not None and self.problem_type not in PROBLEM_TYPES:
            raise ValueError(
                f"problem_type must be one of {', '.join(PROBLEM_TYPES)}, not {self.problem_type!r}"
            )
        if self.pad_token_id is not None and not 0 <= self.pad_token_id < a.V:
            raise ValueError(f"pad_token_id {self.pad_token_id} is outside the vocabulary of {a.V}")
        for name in ("dropout", "attention_dropout", "classifier_dropout", "choice_dropout",
                     "token_dropout", "span_dropout", "embedding_dropout"):  # fmt: skip
            if not 0 <= getattr(a, name) < 1:
                raise ValueError(f"config: {name} must be in [0, 1), not {getattr(a, name)}")

    def check_fields(self) -> None:
        """Raise ValueError for a field of the wrong type and for an integer beyond int32."""
        for f in dataclasses.fields(self):
            value, kind = plain(getattr(self, f.name)), f.type
            object.__setattr__(self, f.name, value)
            wanted = kind | int if isinstance(0.0, kind) else kind  # JSON writes 0 for 0.0
            if not isinstance(value, wanted) or (isinstance(value, bool) and kind is not bool):
                kind = getattr(kind, "__name__", kind)
                raise ValueError(f"config: {f.name} must be {kind}, not {short(value)}")
            if isinstance(value, int) and abs(value) > LARGEST_SIZE:
                raise ValueError(
                    f"config: {f.name} must be at most {LARGEST_SIZE}, not {short(value)}"
                )

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A config from the fields of config.json. Fields that change no number are ignored.

        Raises ValueError for a field of the wrong type, a value that is not supported, or a number
        that is given under two names with different values.
        """
        fields = {**cls.transformers_defaults, **by_own_names(fields, cls.common_names)}
        check_fixed(fields, {**FIXED_EVERYWHERE, **cls.fixed_options})
        labels = fields.get("id2label") or {}
        if labels:
            fields["id2label"] = label_names_of(labels)
            if fields.get("num_labels") not in (None, len(labels)):
                raise ValueError(
                    f"config: num_labels is {fields['num_labels']}, but id2label names "
                    f"{len(labels)} labels; leave num_labels out"
                )
            fields["num_labels"] = len(labels)
        else:
            fields.pop("id2label", None)
        fields["architectures"] = class_names(fields)
        method = fields.get("quantization_config") or QUANTIZATION
        if not isinstance(method, dict) or method.get("quant_method") != "minidistil":
            raise ValueError(
                f"config: quantization_config must have quant_method 'minidistil', not {method!r}; "
                f"fetch the model in float32"
            )
        known = {f.name for f in dataclasses.fields(cls)}
        chosen = {k: v for k, v in fields.items() if k in known and v is not None}
        if fields.get("eos_token_id", 0) in (None, []) and "eos_token_id" in known:
            chosen["eos_token_id"] = None  # null: no token ends a text; the default has one
        elif isinstance(chosen.get("eos_token_id"), list):
            chosen["eos_token_id"] = token_ids(fields, "eos_token_id")
        return cls(**chosen)

    def to_dict(self) -> dict[str, Any]:
        """The fields of config.json."""
        given = dataclasses.asdict(self).items()
        fields = {k: v for k, v in given if v is not None or k == "eos_token_id"}
        fields.pop("num_labels")
        names = self.id2label or tuple(f"LABEL_{k}" for k in range(self.num_labels))
        fields["id2label"] = {str(k): name for k, name in enumerate(names)}
        fields["label2id"] = {name: k for k, name in enumerate(names)}
        return {"model_type": self.model_type, **fields}

    def with_labels(
        self, num_labels: int, problem_type: str | None = None, names: Iterable[str] | None = None
    ) -> Self:
        """The same config with K = `num_labels` classes."""
        names = tuple(names) if names else None
        return dataclasses.replace(
            self, num_labels=num_labels, problem_type=problem_type, id2label=names
        )


def label_names_of(id2label: Mapping[Any, Any]) -> tuple[str, ...]:
    """config.json's {number: name}  ->  the names, as str, in the order of their numbers.

    A null name becomes LABEL_k, as in transformers. Raises ValueError for numbers that are not 0 to
    K − 1 and for names that are lists or objects.
    """
    if not isinstance(id2label, dict):
        raise ValueError(f"config: id2label must map numbers to names, not {short(id2label)}")
    if sorted(map(str, id2label)) != sorted(map(str, range(len(id2label)))):
        raise ValueError(
            f"config: id2label must map the numbers 0 to {len(id2label) - 1} to names, not "
            f"{short(id2label)}"
        )
    names = [name for _, name in sorted(id2label.items(), key=lambda pair: int(pair[0]))]
    wrong = [name for name in names if isinstance(name, list | dict)]
    if wrong:
        raise ValueError(f"config: a name in id2label must be a text, not {short(wrong[0])}")
    return tuple(f"LABEL_{k}" if name is None else str(name) for k, name in enumerate(names))
