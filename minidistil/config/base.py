"""What the families' configs share, and `Architecture`, what the encoder sees of them.

One set of letters, and the few switches in which the families differ.
"""

import dataclasses
from dataclasses import dataclass
from numbers import Integral, Real
from types import MappingProxyType

from minidistil.config.known_fields import (
    EVERYWHERE,
    by_own_names,
    check_fixed,
    class_names,
    token_ids,
)
from minidistil.io.limits import short

LARGEST_SIZE, MOST_LAYERS, MOST_LABELS = 2**31 - 1, 2**12, 2**18
FLOAT32 = 3.4028234663852886e38  # the largest number
ACTIVATIONS = ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu")
# What config.json says of a folder whose matrices are int8; other methods are not read.
QUANTIZATION = {
    "quant_method": "minidistil",
    "bits": 8,
    "weights": "int8, symmetric, a scale for each row: x.weight = x.weight_scale * int8",
    "activations": "256 whole numbers that hold 0, and a scale, for each row, found at run time",
}
PROBLEM_TYPES = ("single_label_classification", "multi_label_classification", "regression")


@dataclass(frozen=True)
class Architecture:
    """One encoder or decoder, in the letters of the dimension key."""

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
    drops_attention_output: bool  # BERT drops out_lin's output before the residual, DistilBERT not
    pooler_activation: str  # of the classifier's first layer
    classifier_dropout: float  # before the layer that classifies what is pooled
    choice_dropout: float  # the same where there are choices
    token_dropout: float  # before the layer that classifies every token
    span_dropout: float = 0.0  # before an answer's start and end; DistilBERT's alone
    transform_activation: str = "gelu"  # of the masked-LM head's first layer
    padding_position: int | None = None  # RoBERTa counts positions from this id on; see `rows`
    E: int | None = None  # ALBERT's channels of the embeddings, mapped onto C; None: C, not mapped
    shared: tuple | None = None  # ALBERT: whose parameters each layer uses; None: its own
    drops_ffn_output: bool = True  # ALBERT does not
    causal: bool = False  # a decoder's block: no token sees a later one
    embedding_dropout: float = 0.0  # the decoder's own; an encoder has `dropout` there
    reader: bool = False  # the decoder of an encoder–decoder, which reads the encoder's output

    @property
    def width(self):
        """Channels of the embeddings, and of what the masked-LM head projects."""
        return self.C if self.E is None else self.E

    @property
    def blocks(self):
        """L numbers: the block whose parameters layer i uses."""
        return tuple(range(self.L)) if self.shared is None else self.shared

    @property
    def first_position(self):
        """The row of the table of positions at which a text begins."""
        return 0 if self.padding_position is None else self.padding_position + 1

    @property
    def longest(self):
        """Tokens that the longest text may have."""
        return self.P - self.first_position


def plain(value):
    """A number of another library as Python's int or float, anything else as it is."""
    if isinstance(value, bool | int | float) or not isinstance(value, Real):
        return value
    return int(value) if isinstance(value, Integral) else float(value)


class BaseConfig:
    """What the families' configs share. Each also says its `architecture`, an Architecture.

    Raises ValueError for sizes that make no model, and for options that change the computation in a
    way that this package does not have.
    """

    unsaid = MappingProxyType({})  # what a config.json means that leaves these out
    common = MappingProxyType({})  # transformers' common name of a field  ->  this family's own
    fixed = MappingProxyType({})  # options of this family that have one value here, which it is

    def __post_init__(self):
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

    def check_fields(self):
        """Raises ValueError for a field of another type, and for a whole number beyond int32."""
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
    def from_dict(cls, fields):
        """A config from the fields of config.json; what changes no number is passed over.

        Raises ValueError for a field of another type, a value that is not supported, or a number
        that is given twice and differs.
        """
        fields = {**cls.unsaid, **by_own_names(fields, cls.common)}
        check_fixed(fields, {**EVERYWHERE, **cls.fixed})
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
            chosen["eos_token_id"] = None  # no word ends a text, which is no default's
        elif isinstance(chosen.get("eos_token_id"), list):
            chosen["eos_token_id"] = token_ids(fields, "eos_token_id")
        return cls(**chosen)

    def to_dict(self):
        """The fields as config.json holds them."""
        given = dataclasses.asdict(self).items()
        fields = {k: v for k, v in given if v is not None or k == "eos_token_id"}
        fields.pop("num_labels")
        names = self.id2label or tuple(f"LABEL_{k}" for k in range(self.num_labels))
        fields["id2label"] = {str(k): name for k, name in enumerate(names)}
        fields["label2id"] = {name: k for k, name in enumerate(names)}
        return {"model_type": self.model_type, **fields}

    def with_labels(self, num_labels, problem_type=None, names=None):
        """The same config for K = `num_labels` classes."""
        names = tuple(names) if names else None
        return dataclasses.replace(
            self, num_labels=num_labels, problem_type=problem_type, id2label=names
        )


def label_names_of(id2label):
    """config.json's {number: name}  ->  the names in the order of their numbers, as str.

    A class without a name has the one that transformers gives it. Raises ValueError for numbers
    that are not 0 to K − 1, or for names that are no text, number or null.
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
