"""The program and the trace of a model: its quantities forward and backward, by its family."""

from minidistil.check.families import decoder_trace, encoder_trace, image_trace, pair_trace
from minidistil.check.families.decoder_program import DecoderProgram
from minidistil.check.families.image_program import ImageProgram
from minidistil.check.families.pair_program import PairProgram
from minidistil.check.program import Program

ENCODERS = ("bert", "distilbert", "roberta", "albert")
PROGRAMS = dict.fromkeys(ENCODERS, Program) | {
    "gpt2": DecoderProgram, "encoder-decoder": PairProgram,
    "vit": ImageProgram, "deit": ImageProgram,
}  # fmt: skip
TRACES = {Program: encoder_trace, DecoderProgram: decoder_trace, PairProgram: pair_trace,
          ImageProgram: image_trace}  # fmt: skip


def program_of(model):
    """The class of a model's program. Raises ValueError for another family."""
    kind = model.config.model_type
    if kind not in PROGRAMS:
        raise ValueError(
            f"no reference for model_type {kind!r}; the families are {', '.join(PROGRAMS)}; "
            f"compare it by hand with md.testing.compare, a loop over names"
        )
    return PROGRAMS[kind]


def trace_of(model):
    """The functions labels, loss and gradients of a model's program, as a module."""
    return TRACES[program_of(model)]
