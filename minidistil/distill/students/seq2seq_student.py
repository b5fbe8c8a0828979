"""A student of an encoder–decoder: some layers of both halves, and the whole LM head.

The head is copied with its transform. A config may give the halves other sizes, or the encoder
another family: what has another shape is initialised from the seed.
"""

import dataclasses
from collections.abc import Sequence

from minidistil.config import EncoderDecoderConfig
from minidistil.distill.students.layer_choice import block_sources, in_teacher
from minidistil.model.parameter_table import HALVES, checked_layers, initial_values, layout
from minidistil.model.partial_initialisation import initialise_from
from minidistil.model.seq2seq.seq2seq_model import EncoderDecoder
from minidistil.ops import NARROW, backend


def pair_student(
    teacher: EncoderDecoder, layers: Sequence[int], decoder_layers: Sequence[int] | None = None,
    config: EncoderDecoderConfig | None = None, seed: int = 0,
) -> EncoderDecoder:  # fmt: skip
    """An EncoderDecoder whose halves are initialised from some of the teacher's layers.

    layers, decoder_layers: of the encoder and of the decoder, by default every other one of the
    decoder. The tokens that begin and end a target are the teacher's.
    Raises ValueError for a layer the teacher does not have, and for a config that does not fit.
    """
    of_teacher = teacher.config
    if config is not None and not isinstance(config, EncoderDecoderConfig):
        raise ValueError(
            f"a {config.model_type} cannot start as an encoder–decoder: it has one half; give an "
            f"EncoderDecoderConfig"
        )
    if decoder_layers is None:
        decoder_layers = range(0, of_teacher.decoder.architecture.L, 2)
    chosen = {}
    for half, some in (("encoder", layers), ("decoder", decoder_layers)):
        depth = getattr(of_teacher, half).architecture.L
        chosen[half] = checked_layers(some, depth, whose=f"the teacher's {half}")
    if config is None:
        config = dataclasses.replace(of_teacher, **{
            half: _shorter(getattr(of_teacher, half), len(some)) for half, some in chosen.items()
        })  # fmt: skip
    ids = ("decoder_start_token_id", "eos_token_id", "pad_token_id", "task")
    config = dataclasses.replace(config, **{name: getattr(of_teacher, name) for name in ids})
    sources = {}
    for half, some in chosen.items():
        try:
            sources[half] = block_sources(getattr(config, half), getattr(of_teacher, half), some)
        except ValueError as error:
            raise ValueError(f"{half}: {error}") from None
    params = initial_values(config, layout(config, teacher.task)[0], seed)
    given, found = teacher.named_by_role(), {}
    for name in params:
        half, _, rest = name.partition(".")
        source = f"{half}.{in_teacher(rest, sources[half])}" if half in HALVES else name
        if source in given:
            found[name] = given[source]
    ops = backend(teacher.ops.name) if teacher.dtype in NARROW else teacher.ops
    student = EncoderDecoder(config, teacher.task, initialise_from(params, found), ops)
    student.generation = teacher.generation
    return student


def _shorter(config, n_layers):
    field = "n_layers" if config.model_type == "distilbert" else "num_hidden_layers"
    return dataclasses.replace(config, **{field: n_layers})
