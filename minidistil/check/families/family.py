"""The program of a model: which reference it is compared with, by its family."""

from minidistil.check.families.decoder_program import DecoderProgram
from minidistil.check.program import Program

ENCODERS = ("bert", "distilbert", "roberta", "albert")
PROGRAMS = dict.fromkeys(ENCODERS, Program) | {"gpt2": DecoderProgram}


def program_of(model):
    """The class of a model's program. Raises ValueError for another family."""
    kind = model.config.model_type
    if kind not in PROGRAMS:
        raise ValueError(
            f"no reference for model_type {kind!r}; the families are {', '.join(PROGRAMS)}; compare "
            f"it by hand with md.testing.compare, a loop over names"
        )
    return PROGRAMS[kind]
