"""Which parameters a whole model has, what checkpoints call them, and how they start: of one body
with its heads, or of an encoder and a decoder.
"""

from collections.abc import Iterable
from numbers import Integral

from minidistil.config import EncoderDecoderConfig
from minidistil.model.names import public_names
from minidistil.model.params import LARGEST, check_size, initialise, shapes

HALVES = {"encoder": "feature-extraction", "decoder": "fill-mask"}  # the task whose heads it has
BRIDGE = ("enc_to_dec_proj.weight", "enc_to_dec_proj.bias")  # between halves of unequal width


def layout(config, task):
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
        sizes |= dict(zip(BRIDGE, ((D, C), (D,)), strict=True))
        names |= {name: name for name in BRIDGE}
    return sizes, names


def first_values(config, wanted, seed, max_bytes=LARGEST):
    """Initial values, float32, of the canonical names and shapes in `wanted`; see `initialise`.

    Raises ValueError, before it allocates any, for more than max_bytes of them.
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


def checked_layers(layers, depth, name="layers", whose="the teacher's"):
    """A list of some of `depth` layers as a tuple. Raises ValueError for any other."""
    chosen = tuple(layers) if isinstance(layers, Iterable) else None
    if not chosen or any(
        isinstance(i, bool) or not isinstance(i, Integral) or not 0 <= i < depth for i in chosen
    ):
        given = layers if chosen is None else list(chosen)
        raise ValueError(f"{name} must name some of {whose} layers 0 to {depth - 1}, not {given}")
    return tuple(map(int, chosen))
