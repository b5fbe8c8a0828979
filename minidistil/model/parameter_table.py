"""Shapes, checkpoint names and initial values of a whole model: one body with its heads, or an
encoder–decoder.
"""

from collections.abc import Iterable, Mapping
from numbers import Integral

import numpy as np

from minidistil.config import BaseConfig, EncoderDecoderConfig
from minidistil.model.names import public_names
from minidistil.model.params import LARGEST, Shapes, check_size, initialise, shapes

HALVES = {"encoder": "feature-extraction", "decoder": "fill-mask"}  # {half: task with its heads}
# Projection from the encoder's width to the decoder's, where they differ
ENC_TO_DEC_PROJ = ("enc_to_dec_proj.weight", "enc_to_dec_proj.bias")


def layout(config: BaseConfig | EncoderDecoderConfig, task: str) -> tuple[Shapes, dict[str, str]]:
    """{canonical name: shape}, {canonical name: name in `params` and in a saved file}."""
    if not isinstance(config, EncoderDecoderConfig):
        sizes = shapes(config, task)
        return sizes, public_names(sizes, config, task)
    sizes, names = {}, {}
    for half, inner_task in HALVES.items():
        part, found = layout(getattr(config, half), inner_task)
        sizes |= {f"{half}.{c}": shape for c, shape in part.items()}
        names |= {f"{half}.{c}": f"{half}.{name}" for c, name in found.items()}
    C, D = config.widths
    if C != D:
        sizes |= dict(zip(ENC_TO_DEC_PROJ, ((D, C), (D,)), strict=True))
        names |= {name: name for name in ENC_TO_DEC_PROJ}
    return sizes, names


def initial_values(
    config: BaseConfig | EncoderDecoderConfig, wanted: Mapping[str, tuple[int, ...]], seed: int,
    max_bytes: int = LARGEST,
) -> dict[str, np.ndarray]:  # fmt: skip
    """Initial values, float32, of the canonical names and shapes in `wanted`; see `initialise`.

    Raises ValueError, before it allocates any, where they take more than max_bytes.
    """
    check_size(wanted, max_bytes)
    if not isinstance(config, EncoderDecoderConfig):
        return initialise(config, wanted, seed)
    values = {}
    for name, shape in wanted.items():
        half, _, rest = name.partition(".")
        inner, role = (getattr(config, half), rest) if half in HALVES else (config.decoder, name)
        values[name] = initialise(inner, {role: shape}, seed, scope=half)[role]
    return values


def checked_layers(
    layers: Iterable[int], depth: int, name: str = "layers", whose: str = "the teacher's"
) -> tuple[int, ...]:
    """A non-empty list of layers, each from 0 to depth − 1, as a tuple. Raises ValueError."""
    chosen = tuple(layers) if isinstance(layers, Iterable) else None
    if not chosen or any(
        isinstance(i, bool) or not isinstance(i, Integral) or not 0 <= i < depth for i in chosen
    ):
        given = layers if chosen is None else list(chosen)
        raise ValueError(f"{name} must name some of {whose} layers 0 to {depth - 1}, not {given}")
    return tuple(map(int, chosen))
