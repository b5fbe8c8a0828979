"""ViT and DeiT: the tokens are square patches of an image, the blocks those of `decoder` without
the causal mask.

    x₀ = [cls; (distillation;) patch₁·Wᵀ + b; patch₂·Wᵀ + b; …] + position
    x  = L blocks, LN first                       h = final_norm(x)
    ViT      logits = classifier(h[cls])
    DeiT     logits = (cls_classifier(h[cls]) + distillation_classifier(h[distillation]))/2

The convolution of the patch embedding has its width as its stride, so it is a product with
flattened patches. All images have T rows, so `bounds` are multiples of T.
Sources: Dosovitskiy et al., "An image is worth 16x16 words" (ViT), 2020, eq. 1-4; Touvron et al.,
"Training data-efficient image transformers & distillation through attention" (DeiT), 2021, §4.
"""

from typing import Any, NamedTuple

import numpy as np

from minidistil.model.context import EMBEDDING_DROPOUT, Context, drop_backward, plus
from minidistil.model.decoder import block, block_backward, final_norm
from minidistil.model.encoder import Params, of, scope, stack, stack_backward

IMAGES, BODY = "image-classification", "feature-extraction"
HEADS = {
    ("vit", IMAGES): ("classifier",),
    ("deit", IMAGES): ("cls_classifier", "distillation_classifier"),
    ("vit", BODY): ("pooler",),
    ("deit", BODY): ("pooler",),
}
CLASSES = {
    ("vit", IMAGES): "ViTForImageClassification",
    ("deit", IMAGES): "DeiTForImageClassificationWithTeacher",
    ("vit", BODY): "ViTModel",
    ("deit", BODY): "DeiTModel",
}


def task_named(config, task: str | None = None) -> str:
    """The task, by default that of config.architectures. Raises ValueError for an unknown one."""
    kind, classes = config.model_type, config.architectures or ()
    found = [t for (k, t), name in CLASSES.items() if k == kind and name in classes]
    if classes and not found and task is None:
        raise ValueError(
            f"architectures names {classes[0]!r}, which this version does not have; choose a task: "
            f"{IMAGES}, {BODY}"
        )
    task = task or (found[0] if found else IMAGES)
    if (kind, task) not in HEADS:
        raise ValueError(f"{kind} has the tasks {IMAGES} and {BODY}, not {task!r}")
    if "pooler" in HEADS[kind, task]:
        if config.pooler_act != "tanh":
            raise ValueError(f"pooler_act must be 'tanh' for {task}, not {config.pooler_act!r}")
        if config.pooler_output_size not in (None, config.hidden_size):
            raise ValueError(
                f"pooler_output_size must be hidden_size {config.hidden_size} for {task}, not "
                f"{config.pooler_output_size}"
            )
    return task


class VisionStates(NamedTuple):
    """The outputs for B images."""

    hidden: tuple  # L+1 arrays (B·T,C), before the last LayerNorm
    last: Any  # (B·T,C), after it
    answers: dict  # {head: logits (B,K), or for the pooler (B,C)}


def patches(pixels: np.ndarray, size: int) -> np.ndarray:
    """pixels (B,channels,S,S)  ->  (B·n,channels·size²), n patches row by row."""
    B, channels, S, _ = pixels.shape
    cut = pixels.reshape(B, channels, S // size, size, S // size, size)
    return np.ascontiguousarray(cut.transpose(0, 2, 4, 1, 3, 5)).reshape(-1, channels * size**2)


class Places(NamedTuple):
    """The rows of B images."""

    bounds: np.ndarray  # (B+1,)
    sequence: np.ndarray  # (B·T,) which image
    column: np.ndarray  # (B·T,) which row of it
    source: np.ndarray  # (B·T,) its row in [specials; patches of all images]

    @classmethod
    def of(cls, B: int, T: int, specials: int) -> "Places":
        """B images of T rows, the first `specials` of which are special tokens."""
        sequence, column = (x.ravel() for x in np.indices((B, T)))
        of_patch = specials + sequence * (T - specials) + column - specials
        source = np.where(column < specials, column, of_patch)
        return cls(np.arange(B + 1) * T, sequence, column, source)


def embed(flat, places: Places, p: Params, context: Context):
    """flat (B·n,V) patches  ->  x₀ (B·T,C), cache."""
    ops = context.ops
    projected, linear = ops.linear.forward(flat, *of(p, "patch"))
    table = ops.place.stack([p["specials"], projected])
    tokens, gather = ops.embedding.forward(table, ids=places.source)
    position, position_cache = ops.embedding.forward(p["position"], ids=places.column)
    x, add = ops.add.forward(tokens, position)
    x, dropped = context.drop(x, context.architecture.embedding_dropout, EMBEDDING_DROPOUT)
    return x, (linear, gather, position_cache, add, dropped, len(p["specials"]))


def embed_backward(dx, cache: tuple, ops):
    """dx₀ (B·T,C), None where they are frozen  ->  gradients."""
    if dx is None:
        return {}
    linear, gather, position_cache, add, dropped, specials = cache
    d = {}
    dtokens, dposition = ops.add.backward(drop_backward(dx, dropped, ops), add)
    (d["position"],) = ops.embedding.backward(dposition, position_cache)
    (dtable,) = ops.embedding.backward(dtokens, gather)
    d["specials"] = dtable[:specials]
    _, d["patch.weight"], d["patch.bias"] = ops.linear.backward(dtable[specials:], linear)
    return d


def forward(p: Params, flat, places: Places, heads: tuple, context: Context):
    """flat (B·n,V) patches, Places  ->  VisionStates, cache."""
    ops = context.ops
    x, embedding = embed(flat, places, scope(p, "embeddings"), context)
    hidden, blocks = stack([block] * context.architecture.L, x, p, context)
    last, norm = final_norm(hidden[-1], p, context)
    answers, read = {}, {}
    for i, head in enumerate(heads):
        token, gather = ops.embedding.forward(last, ids=places.bounds[:-1] + i)  # (B,C)
        z, linear = ops.linear.forward(token, *of(p, head))
        z, tanh = ops.tanh.forward(z) if head == "pooler" else (z, None)
        answers[head], read[head] = z, (gather, linear, tanh)
    cache = (embedding, blocks, norm, read) if context.keep else None
    return VisionStates(tuple(hidden), last, answers), cache


def backward(dh, danswers: dict, cache: tuple, ops) -> dict:
    """dh (B·T,C) of the last hidden state or None; danswers: {head: gradient}, one of the two at
    least  ->  canonical gradients."""
    embedding, blocks, norm, read = cache
    d = {}
    for head, dz in danswers.items():
        gather, linear, tanh = read[head]
        if tanh is not None:
            (dz,) = ops.tanh.backward(dz, tanh)
        dtoken, d[f"{head}.weight"], d[f"{head}.bias"] = ops.linear.backward(dz, linear)
        dh = plus(dh, ops.embedding.backward(dtoken, gather)[0], ops)
    dx, d["final_norm.weight"], d["final_norm.bias"] = ops.layernorm.backward(dh, norm)
    L = len(blocks.caches)
    dx, dblocks = stack_backward([block_backward] * L, (*[None] * L, dx), blocks, ops)
    d_embed = {f"embeddings.{k}": g for k, g in embed_backward(dx, embedding, ops).items()}
    return d | dblocks | d_embed


def mean(answers: dict, ops) -> Any:
    """{head: logits (B,K)}  ->  their mean (B,K)."""
    total = None
    for z in answers.values():
        total = plus(total, z, ops)
    return total if len(answers) == 1 else ops.place.scaled(total, 1 / len(answers))
