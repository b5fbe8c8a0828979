"""Config of an encoder–decoder: an encoder's config, a decoder's, and the special tokens."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self

from minidistil.config.base import Architecture
from minidistil.config.encoders import AlbertConfig, BertConfig, DistilBertConfig, RobertaConfig
from minidistil.config.known_fields import class_names, first_id, token_ids

ENCODERS = {c.model_type: c for c in (BertConfig, DistilBertConfig, RobertaConfig, AlbertConfig)}
DECODER_FLAGS = ("is_decoder", "add_cross_attention")  # both true in a decoder's config


@dataclass(frozen=True)
class BertDecoderConfig(BertConfig):
    """BERT as a decoder: a causal mask, and cross attention to the encoder's output."""

    fixed_options = MappingProxyType({"position_embedding_type": "absolute", "is_causal": True})

    @property
    def architecture(self) -> Architecture:
        return dataclasses.replace(super().architecture, cross_attends=True)

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A config from the field `decoder` of a config.json. Raises ValueError unless both
        DECODER_FLAGS are true."""
        for name in DECODER_FLAGS:
            if fields.get(name) is not True:
                raise ValueError(f"config: decoder.{name} must be true, not {fields.get(name)!r}")
        return super().from_dict(fields)

    def to_dict(self) -> dict[str, Any]:
        """The fields of config.json."""
        return super().to_dict() | dict.fromkeys(DECODER_FLAGS, True)


@dataclass(frozen=True)
class EncoderDecoderConfig:
    """The config.json of transformers' EncoderDecoderModel.

    decoder_start_token_id: the first token of every target ([CLS] of a BERT). eos_token_id: the
    last one ([SEP]), or a tuple of ids, each of which ends a target. task: the task that the model
    was trained for, None where unknown; config.json stores it as the first of task_specific_params.
    Raises ValueError for an id outside the decoder's vocabulary and for a start or end that is the
    padding id.
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
    tie_word_embeddings = True  # of the whole; each half has its own field

    def __post_init__(self) -> None:
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
    def architecture(self) -> Architecture:
        """The encoder's architecture, which bounds the input texts."""
        return self.encoder.architecture

    @property
    def vocab_size(self) -> int:
        """The decoder's vocabulary: the classes of the logits."""
        return self.decoder.vocab_size

    @property
    def widths(self) -> tuple[int, int]:
        """Channels of encoder and decoder. Where they differ, enc_to_dec_proj maps one to the
        other."""
        return self.encoder.architecture.C, self.decoder.architecture.C

    @classmethod
    def from_dict(cls, fields: Mapping[str, Any]) -> Self:
        """A config from the fields of config.json. Raises ValueError for a field that makes no
        model.

        A missing id is taken from the decoder's config; without decoder_start_token_id a target
        begins with bos_token_id, as in transformers.
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
        merged = fields["decoder"] | {k: v for k, v in fields.items() if v is not None}
        ends = token_ids(merged, "eos_token_id")
        ids = {
            "decoder_start_token_id": first_id(merged, "decoder_start_token_id", "bos_token_id"),
            "eos_token_id": ends[0] if ends and len(ends) == 1 else ends,
            "pad_token_id": halves["decoder"].pad_token_id
            if (pad := first_id(merged, "pad_token_id")) is None else pad,
        }  # fmt: skip
        for name, value in ids.items():
            if value is None:
                raise ValueError(f"config: {name} is missing; a target needs both ends")
        tasks = fields.get("task_specific_params")
        task = next(iter(tasks), None) if isinstance(tasks, dict) else None
        return cls(**halves, **ids, task=task, architectures=class_names(fields))

    def to_dict(self) -> dict[str, Any]:
        """The fields of config.json."""
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
