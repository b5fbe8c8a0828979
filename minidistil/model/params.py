"""Parameters of a model: canonical names, shapes and initial values.

A canonical name gives the role (`layer.0.q.weight`); `names.py` maps it to a checkpoint's name.
"""

import math
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from minidistil.config.base import Architecture, BaseConfig
from minidistil.io.arguments import real
from minidistil.io.limits import short
from minidistil.model.heads import CLASSIFIERS, POOLERS, heads_of

Shapes = dict[str, tuple[int, ...]]  # {name: shape}
FLOAT32 = float(np.finfo(np.float32).max)


def shapes(config: BaseConfig, task: str) -> Shapes:
    """{canonical name: shape} of the whole model, in the order of its forward."""
    return {**body_shapes(config.architecture), **head_shapes(config, task)}


def body_shapes(a: Architecture) -> Shapes:
    """Embeddings and blocks."""
    s = {"embeddings.word.weight": (a.V, a.width), "embeddings.position.weight": (a.P, a.width)}
    return s | (decoder_shapes(a) if a.causal else encoder_shapes(a))


def encoder_shapes(a: Architecture) -> Shapes:
    """An encoder without its word and position tables, which `body_shapes` gives."""
    s = {}
    if a.types:
        s["embeddings.type.weight"] = (a.types, a.width)
    s.update(_norm("embeddings.norm", a.width))
    if a.E is not None:
        s.update(_linear("embeddings.mapping", a.E, a.C))
    for i in sorted(set(a.blocks)):
        for role in ("q", "k", "v", "out"):
            s.update(_linear(f"layer.{i}.{role}", a.C, a.C))
        s.update(_norm(f"layer.{i}.attention_norm", a.C))
        if a.cross_attends:
            for role in ("cross_q", "cross_k", "cross_v", "cross_out"):
                s.update(_linear(f"layer.{i}.{role}", a.C, a.C))
            s.update(_norm(f"layer.{i}.cross_norm", a.C))
        s.update(_linear(f"layer.{i}.lin1", a.C, a.F))
        s.update(_linear(f"layer.{i}.lin2", a.F, a.C))
        s.update(_norm(f"layer.{i}.output_norm", a.C))
    return s


def decoder_shapes(a: Architecture) -> Shapes:
    """GPT-2 without its word and position tables. Its matrices are stored as (in,out)."""
    s = {}
    for i in range(a.L):
        s.update(_norm(f"layer.{i}.attention_norm", a.C))
        s.update(_transposed_linear(f"layer.{i}.qkv", a.C, 3 * a.C))
        s.update(_transposed_linear(f"layer.{i}.out", a.C, a.C))
        s.update(_norm(f"layer.{i}.ffn_norm", a.C))
        s.update(_transposed_linear(f"layer.{i}.lin1", a.C, a.F))
        s.update(_transposed_linear(f"layer.{i}.lin2", a.F, a.C))
    return s | _norm("final_norm", a.C)


def head_shapes(config: BaseConfig, task: str) -> Shapes:
    """The heads of a task. An LM head's weight is not listed: it is the word table (tied)."""
    a, s = config.architecture, {}
    for head in heads_of(config, task):
        if head == "mlm":
            s.update(_linear("transform", a.C, a.width))
            s.update(_norm("transform_norm", a.width))
            s["decoder.bias"] = (a.V,)
        elif head == "lm":
            continue
        elif head in POOLERS:
            s.update(_linear(head, a.C, a.C))
        else:
            last = CLASSIFIERS[head]
            s.update(_linear(last.role, a.C, last.outputs or config.num_labels))
    return s


def _linear(name, inputs, outputs):
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _transposed_linear(name, inputs, outputs):
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def _norm(name, channels):
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def initialise(
    config: BaseConfig, wanted: Mapping[str, tuple[int, ...]], seed: int, scope: str = ""
) -> dict[str, np.ndarray]:
    """Initial values, float32, of the names and shapes in `wanted`, as in the published models.

    Matrices N(0, initializer_range²), the padding token's row 0, biases 0, LayerNorm's γ 1 and β 0;
    sinusoidal positions where a DistilBERT config asks for them. GPT-2's `out` and `lin2`, whose
    outputs the residual stream adds up, are divided by √(2L). Each parameter has its own random
    stream, so that adding a head changes no other parameter. `scope` is a prefix of the stream's
    name that separates the two halves of an encoder–decoder.
    """
    params, sinusoidal = {}, getattr(config, "sinusoidal_pos_embds", False)
    a = config.architecture
    zero_at_padding = [] if a.causal else ["embeddings.word.weight"]
    if a.padding_position is not None:
        zero_at_padding.append("embeddings.position.weight")
    for name, shape in wanted.items():
        if name.endswith("norm.weight"):
            value = np.ones(shape, np.float32)
        elif len(shape) == 1:
            value = np.zeros(shape, np.float32)
        elif name == "embeddings.position.weight" and sinusoidal:
            value = sinusoids(*shape)
        else:
            rng = np.random.default_rng([seed, zlib.crc32((scope + name).encode())])
            residual = a.causal and name.endswith(("out.weight", "lin2.weight"))
            scale = config.initializer_range / (math.sqrt(2 * a.L) if residual else 1)
            value = rng.normal(0, scale, shape).astype(np.float32)
        if name in zero_at_padding:
            value[config.pad_token_id] = 0
        params[name] = value
    return params


def sinusoids(P: int, C: int) -> np.ndarray:
    """Position table (P,C): sin and cos of p/10000^(2j/C) in channels 2j and 2j+1.

    Source: Vaswani et al., "Attention is all you need", 2017, §3.5.
    """
    angle = np.arange(P)[:, None] / 10000 ** (2 * (np.arange(C) // 2) / C)
    table = np.where(np.arange(C) % 2, np.cos(angle), np.sin(angle))
    return table.astype(np.float32)


def checked_arrays(arrays: Mapping[str, Any], shapes_: Mapping[str, tuple]) -> dict[str, Any]:
    """Check the arrays of `update`: real numbers, of the parameter's shape, within float32.

    shapes_: {name: shape}. Raises TypeError where `arrays` is no mapping, and ValueError.
    """
    if not isinstance(arrays, Mapping):
        raise TypeError(f"update takes {{name: array}}, not {short(arrays)}")
    checked = {}
    for name, x in arrays.items():
        if name not in shapes_:
            raise ValueError(f"no parameter is called {name!r}")
        x = x if hasattr(x, "copy_to_host") else real(name, x, axes=0)
        if x.shape != shapes_[name]:
            raise ValueError(f"{name} must be {shapes_[name]}, not {x.shape}")
        if x.dtype == np.float64 and (largest := np.abs(x).max()) > FLOAT32 and largest < np.inf:
            raise ValueError(f"{name} holds {largest:.3g}, and float32 at most {FLOAT32:.3g}")
        checked[name] = x
    return checked


LARGEST = 2**33  # bytes of new parameters; `from_config` takes another bound as max_bytes


def check_size(shapes_: Mapping[str, tuple[int, ...]], most: int = LARGEST) -> None:
    """Raise ValueError where new parameters of these shapes take more than `most` bytes."""
    size = 4 * count(shapes_)
    if size > most:
        raise ValueError(
            f"the config asks for {size:,} bytes of new parameters, and max_bytes is {most:,}; "
            f"give smaller sizes, or a larger max_bytes to from_config"
        )


def count(shapes_: Mapping[str, tuple[int, ...]]) -> int:
    """The number of values in arrays of these shapes."""
    return sum(math.prod(shape) for shape in shapes_.values())
