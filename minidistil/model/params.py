"""Which parameters a model has: canonical names, shapes, and how they start.

A canonical name says the role (`layer.0.q.weight`); `names.py` says what a checkpoint calls it.
"""

import math
import zlib
from collections.abc import Mapping

import numpy as np

from minidistil.io.arguments import real
from minidistil.io.limits import short
from minidistil.model.heads import CLASSIFIERS, POOLERS, heads_of

FLOAT32 = float(np.finfo(np.float32).max)


def shapes(config, task):
    """{canonical name: shape} for the whole model, in the order of its forward."""
    return {**body_shapes(config.architecture), **head_shapes(config, task)}


def body_shapes(a):
    """Embeddings and blocks."""
    s = {"embeddings.word.weight": (a.V, a.width), "embeddings.position.weight": (a.P, a.width)}
    return s | (decoder_shapes(a) if a.causal else encoder_shapes(a))


def encoder_shapes(a):
    """What follows an encoder's tables of words and positions."""
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
        if a.reader:
            for role in ("cross_q", "cross_k", "cross_v", "cross_out"):
                s.update(_linear(f"layer.{i}.{role}", a.C, a.C))
            s.update(_norm(f"layer.{i}.cross_norm", a.C))
        s.update(_linear(f"layer.{i}.lin1", a.C, a.F))
        s.update(_linear(f"layer.{i}.lin2", a.F, a.C))
        s.update(_norm(f"layer.{i}.output_norm", a.C))
    return s


def decoder_shapes(a):
    """The same of a decoder, whose matrices are kept as (in,out)."""
    s = {}
    for i in range(a.L):
        s.update(_norm(f"layer.{i}.attention_norm", a.C))
        s.update(_turned(f"layer.{i}.qkv", a.C, 3 * a.C))
        s.update(_turned(f"layer.{i}.out", a.C, a.C))
        s.update(_norm(f"layer.{i}.ffn_norm", a.C))
        s.update(_turned(f"layer.{i}.lin1", a.C, a.F))
        s.update(_turned(f"layer.{i}.lin2", a.F, a.C))
    return s | _norm("final_norm", a.C)


def head_shapes(config, task):
    """The heads of a task; what projects onto words is the word table, so not listed."""
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


def _turned(name, inputs, outputs):
    return {f"{name}.weight": (inputs, outputs), f"{name}.bias": (outputs,)}


def _norm(name, channels):
    return {f"{name}.weight": (channels,), f"{name}.bias": (channels,)}


def initialise(config, wanted, seed, scope=""):
    """{name: float32 array} for the names and shapes in `wanted`, as the originals start.

    Matrices N(0, initializer_range), the pad token's row 0, biases 0, LayerNorm 1 and 0; sinusoids
    for the positions where a DistilBERT config asks for them. A decoder's `out` and `lin2`, which
    add to the sum, start smaller, by √(2L). Each parameter has a random stream of its own, so
    adding a head changes no other parameter; `scope` keeps two models apart.
    """
    params, sinusoidal = {}, getattr(config, "sinusoidal_pos_embds", False)
    a = config.architecture
    untrained = [] if a.causal else ["embeddings.word.weight"]
    if config.architecture.padding_position is not None:
        untrained.append("embeddings.position.weight")
    for name, shape in wanted.items():
        if name.endswith("norm.weight"):
            value = np.ones(shape, np.float32)
        elif len(shape) == 1:
            value = np.zeros(shape, np.float32)
        elif name == "embeddings.position.weight" and sinusoidal:
            value = sinusoids(*shape)
        else:
            rng = np.random.default_rng([seed, zlib.crc32((scope + name).encode())])
            adds = a.causal and name.endswith(("out.weight", "lin2.weight"))
            scale = config.initializer_range / (math.sqrt(2 * a.L) if adds else 1)
            value = rng.normal(0, scale, shape).astype(np.float32)
        if name in untrained:
            value[config.pad_token_id] = 0
        params[name] = value
    return params


def sinusoids(P, C):
    """Position table (P,C): sin and cos of p/10000^(2j/C) in channels 2j and 2j+1.

    Source: Vaswani et al., "Attention is all you need", 2017, §3.5.
    """
    angle = np.arange(P)[:, None] / 10000 ** (2 * (np.arange(C) // 2) / C)
    table = np.where(np.arange(C) % 2, np.cos(angle), np.sin(angle))
    return table.astype(np.float32)


def checked_arrays(arrays, shapes_):
    """{name: array} for `update`: real numbers of a parameter's shape that float32 can hold.

    shapes_: {name: shape}. Raises TypeError for what is no mapping, ValueError for another array.
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


LARGEST = 2**33  # bytes of new parameters, unless the caller of from_config allows more


def check_size(shapes_, most=LARGEST):
    """Raises ValueError where new parameters of these shapes take more than `most` bytes."""
    size = 4 * count(shapes_)
    if size > most:
        raise ValueError(
            f"the config asks for {size:,} bytes of new parameters, and max_bytes is {most:,}; "
            f"give smaller sizes, or a larger max_bytes to from_config"
        )


def count(shapes_):
    """How many numbers the shapes hold."""
    return sum(math.prod(shape) for shape in shapes_.values())
