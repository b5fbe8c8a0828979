"""An encoder and a decoder that reads its output: two configs in one."""

import dataclasses
from dataclasses import dataclass
from types import MappingProxyType

from minidistil.config.encoders import AlbertConfig, BertConfig, DistilBertConfig, RobertaConfig
from minidistil.config.known_fields import class_names, first_id, token_ids

ENCODERS = {c.model_type: c for c in (BertConfig, DistilBertConfig, RobertaConfig, AlbertConfig)}
SWITCHES = ("is_decoder", "add_cross_attention")  # what makes a decoder of a BERT


@dataclass(frozen=True)
class BertDecoderConfig(BertConfig):
    """A BERT that reads from left to right and, besides, what an encoder has made of a text."""

    fixed = MappingProxyType({"position_embedding_type": "absolute", "is_causal": True})

    @property
    def architecture(self):
        return dataclasses.replace(super().architecture, reader=True)

    @classmethod
    def from_dict(cls, fields):
        """A config from the `decoder` of a config.json. Raises ValueError where it is none."""
        for name in SWITCHES:
            if fields.get(name) is not True:
                raise ValueError(f"config: decoder.{name} must be true, not {fields.get(name)!r}")
        return super().from_dict(fields)

    def to_dict(self):
        """The fields as config.json holds them."""
        return super().to_dict() | dict.fromkeys(SWITCHES, True)


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """The config.json of transformers' EncoderDecoderModel.

    decoder_start_token_id: what every target begins with ([CLS] of a BERT); eos_token_id: what it
    ends with ([SEP]), several: each of them. task: what the model has been trained for, if it says
    so: in config.json the first of task_specific_params. Raises ValueError for ids outside the
    decoder's vocabulary, or one that is padding.
    """

    encoder: BertConfig | DistilBertConfig | RobertaConfig | AlbertConfig
    decoder: BertDecoderConfig
    decoder_start_token_id: int
    eos_token_id: int | tuple
    pad_token_id: int = 0
    task: str | None = None
    architectures: tuple | None = None
    model_type = "encoder-decoder"
    problem_type = None
    tie_word_embeddings = True  # those of the halves are their own

    def __post_init__(self):
        V = self.decoder.vocab_size
        for name in ("decoder_start_token_id", "eos_token_id", "pad_token_id"):
            for value in token_ids(vars(self), name) or (None,):
                if value is None or not 0 <= value < V:
                    raise ValueError(
                        f"config: {name} must be a word of the decoder's {V}, not {value}"
                    )
                if name != "pad_token_id" and value == self.pad_token_id:
                    raise ValueError(f"config: {name} and pad_token_id are both {value}")

    @property
    def architecture(self):
        """The encoder's, which is what a text meets first."""
        return self.encoder.architecture

    @property
    def vocab_size(self):
        return self.decoder.vocab_size

    @property
    def widths(self):
        """Channels of encoder and decoder; where they differ, a projection joins them."""
        return self.encoder.architecture.C, self.decoder.architecture.C

    @classmethod
    def from_dict(cls, fields):
        """A config from the fields of config.json. Raises ValueError where one makes no model.

        An id that is missing is the decoder's; without decoder_start_token_id a target begins with
        bos_token_id, as in transformers.
        """
        halves = {}
        for half in ("encoder", "decoder"):
            inner = fields.get(half)
            if not isinstance(inner, dict):
                raise ValueError(f"config: {half} must be a config of its own, not {inner!r}")
            kind, allowed = inner.get("model_type"), ENCODERS if half == "encoder" else ("bert",)
            if kind not in allowed:
                raise ValueError(
                    f"config: {half}.model_type must be {' or '.join(allowed)}, not {kind!r}"
                )
            try:
                family = ENCODERS[kind] if half == "encoder" else BertDecoderConfig
                halves[half] = family.from_dict(inner)
            except ValueError as error:
                raise ValueError(f"{half}: {error}") from None
        C = halves["decoder"].architecture.C
        if fields["decoder"].get("cross_attention_hidden_size", C) != C:
            raise ValueError("config: decoder.cross_attention_hidden_size must be left out")
        said = fields["decoder"] | {k: v for k, v in fields.items() if v is not None}
        ends = token_ids(said, "eos_token_id")
        ids = {
            "decoder_start_token_id": first_id(said, "decoder_start_token_id", "bos_token_id"),
            "eos_token_id": ends[0] if ends and len(ends) == 1 else ends,
            "pad_token_id": halves["decoder"].pad_token_id
            if (pad := first_id(said, "pad_token_id")) is None else pad,
        }  # fmt: skip
        for name, value in ids.items():
            if value is None:
                raise ValueError(f"config: {name} is missing; a target needs both ends")
        tasks = fields.get("task_specific_params")
        task = next(iter(tasks), None) if isinstance(tasks, dict) else None
        return cls(**halves, **ids, task=task, architectures=class_names(fields))

    def to_dict(self):
        """The fields as config.json holds them."""
        return {
            "model_type": self.model_type,
            "is_encoder_decoder": True,
            "encoder": self.encoder.to_dict(),
            "decoder": self.decoder.to_dict(),
            "decoder_start_token_id": self.decoder_start_token_id,
            "eos_token_id": self.eos_token_id,
            "pad_token_id": self.pad_token_id,
            **({"task_specific_params": {self.task: {}}} if self.task else {}),
        }
