"""Mistakes in ViT and DeiT: pixels, patches, special tokens, positions, heads."""

import math

import numpy as np

from minidistil.check.families import image_ops
from minidistil.check.families.image_ops import TokenOrder
from minidistil.check.mistakes.registry import mistake

SCALES = {
    "divided by 255": lambda x: x / 255, "multiplied by 255": lambda x: x * 255,
    "(x − ½)/½": lambda x: 2 * x - 1, "(x + 1)/2": lambda x: (x + 1) / 2,
    "x/127.5 − 1": lambda x: x / 127.5 - 1,
    "x/255, then (x − ½)/½": lambda x: 2 * x / 255 - 1,
    "each channel is replaced by their mean (gray)": lambda x: 0 * x + x.mean(1, keepdims=True),
    "each image's mean is subtracted": lambda x: x - x.mean((1, 2, 3), keepdims=True),
    "each channel's mean in an image is subtracted": lambda x: x - x.mean((2, 3), keepdims=True),
    "cut off at 0 and 1": lambda x: np.clip(x, 0, 1),
}  # fmt: skip


@mistake(
    "pixels-scaled", "pixels", values=tuple(SCALES),
    says="The module changes pixels that the preprocessor has scaled already: {}.",
    yours="{}", right="pixel_values as the folder's preprocessor_config.json makes them",
    fix="scale once, in the data or in the model",
)  # fmt: skip
def pixels_scaled(x, *, value):
    return SCALES[value](x)


MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@mistake(
    "pixels-scaled", "pixels", values=("ImageNet's mean and standard deviation",),
    says="The module normalises pixels that are normalised already: with {}.",
    yours="(x − mean)/std",
    right="pixel_values as the folder's preprocessor_config.json makes them",
    fix="normalise once, in the data or in the model",
)  # fmt: skip
def pixels_normalised(x, *, value):
    mean, std = (np.array(v)[: x.shape[1], None, None] for v in (MEAN, STD))
    return (x - mean) / std


MOVED = {
    "the channels are reversed (BGR)": lambda x: x[:, ::-1],
    "rows and columns are swapped": lambda x: x.swapaxes(2, 3),
    "the rows are upside down": lambda x: x[:, :, ::-1],
    "the columns are mirrored": lambda x: x[:, :, :, ::-1],
    "turned by 90°": lambda x: np.rot90(x, 1, (2, 3)),
    "turned by 180°": lambda x: np.rot90(x, 2, (2, 3)),
    "turned by 270°": lambda x: np.rot90(x, 3, (2, 3)),
}


@mistake(
    "pixels-moved", "pixels", values=tuple(MOVED),
    says="The image's pixels are in another order: {}.",
    yours="{}", right="(B,channels,rows,columns)", fix="permute from (rows,columns,channels) once",
)  # fmt: skip
def pixels_moved(x, *, value):
    return MOVED[value](x)


@mistake(
    "patch-order", "cut", values=("column by column", "backwards"),
    says="The patches are in another order: {}.",
    yours="patches {}", right="patches row by row: conv(x).flatten(2).transpose(1, 2)",
    fix="rows of the grid first; look for a swap of height and width",
)  # fmt: skip
def patch_order(x, size, *, value):
    cut = image_ops.cut(x, size)
    if value == "backwards":
        return cut[:, ::-1]
    g = math.isqrt(cut.shape[1])
    return cut.reshape(len(x), g, g, -1).swapaxes(1, 2).reshape(cut.shape)


FLIPPED = "both of them backwards, as in a convolution that flips its kernel"
INSIDE = {
    "rows, columns, channels": (2, 3, 1), "columns, rows, channels": (3, 2, 1),
    "channels, columns, rows": (1, 3, 2), FLIPPED: (1, 2, 3),
}  # fmt: skip


@mistake(
    "patch-pixels", "cut", values=tuple(INSIDE),
    says="A patch's pixels are in another order than the weight's: {}.",
    yours="{}",
    right="channels, rows, columns, as a convolution's weight (C,channels,p,p) has them",
    fix="flatten a patch as (channels,p,p), or permute the weight to match",
)  # fmt: skip
def patch_pixels(x, size, *, value):
    cut = image_ops.cut(x, size)
    one = cut.reshape(-1, x.shape[1], size, size).transpose(0, *INSIDE[value])
    one = one[:, :, ::-1, ::-1] if value == FLIPPED else one
    return one.reshape(cut.shape)


@mistake(
    "patches-reshaped", "cut",
    says="The image is reshaped into patches without moving its axes: a patch is a strip of rows.",
    yours="x.reshape(B, n, channels·p²)", right="x.unfold, a convolution, or reshape and permute",
    fix="(B,c,g,p,g,p) → axes (0,2,4,1,3,5) → (B,g²,c·p²)",
)  # fmt: skip
def patches_reshaped(x, size):
    return x.reshape(image_ops.cut(x, size).shape)


TOKENS = "x₀ = [cls; (distillation;) patches] + position,  the answer is read at cls"
ROWS = {"the patches' rows": lambda p, S: p[S:], "the first rows": lambda p, S: p[:-S]}
POOLED = {"the mean": lambda h: h.mean(axis=1), "the first patch": lambda h: h[:, 0]}


@mistake(
    "class-token-missing", "token_order",
    values=tuple((rows, pooled) for rows in ROWS for pooled in POOLED),
    says="The special tokens are missing: the sequence holds patches alone.",
    yours="x₀ = patches + position,  the answer is read at the mean or at the first patch",
    right=TOKENS, fix="put [CLS] before the patches of each image, on axis 1",
)  # fmt: skip
def class_token_missing(S, n, *, value):
    rows, pooled = value
    return TokenOrder(
        lambda specials, x: x, lambda p: ROWS[rows](p, S), lambda h, i: POOLED[pooled](h)
    )


PLACES = ("with its own position", "with the last position")


@mistake(
    "class-token-last", "token_order",
    values=tuple((place, read) for place in PLACES for read in ("the last", "the first")),
    says="The special tokens are appended behind the patches.",
    yours="x₀ = [patches; cls] + position", right=TOKENS,
    fix="[CLS], then the patches, on axis 1: special tokens first",
)  # fmt: skip
def class_token_last(S, n, *, value):
    place, read = value
    return TokenOrder(
        lambda specials, x: np.concatenate([x, specials], axis=1),
        lambda p: np.concatenate([p[S:], p[:S]]) if place == PLACES[0] else p,
        lambda h, i: h[:, i + (n if read == "the last" else 0)],
    )


@mistake(
    "distillation-token-missing", "token_order",
    values=("its row left out", "the last row left out"),
    says="The distillation token is missing: both heads read [CLS].",
    yours="x₀ = [cls; patches] + position, {}", right=TOKENS,
    fix="[CLS], the distillation token, then the patches, on axis 1",
)  # fmt: skip
def distillation_token_missing(S, n, *, value):
    if S < 2:
        raise ValueError("a ViT has no distillation token")
    return TokenOrder(
        lambda specials, x: np.concatenate([specials[:, :1], x], axis=1),
        lambda p: np.delete(p, 1 if value.startswith("its") else -1, axis=0),
        lambda h, i: h[:, 0],
    )


@mistake(
    "special-tokens-swapped", "token_order", values=("in the sequence", "at the heads"),
    says="[CLS] and the distillation token are swapped {}.",
    yours="x₀ = [distillation; cls; patches] + position", right=TOKENS,
    fix="[CLS] is row 0, the distillation token row 1",
)  # fmt: skip
def special_tokens_swapped(S, n, *, value):
    right = image_ops.token_order(S, n)
    if value == "at the heads":
        return right._replace(read=lambda h, i: h[:, S - 1 - i])
    return right._replace(join=lambda s, x: np.concatenate([s[:, ::-1], x], axis=1))


def _grid(position, S, change):
    """The patches' rows (n,C) as a grid (g,g,C), changed."""
    rows = position[S:]
    g = math.isqrt(len(rows))
    return np.concatenate([position[:S], change(rows.reshape(g, g, -1)).reshape(rows.shape)])


POSITIONS = {
    "left out": lambda p, S: 0 * p,
    "left out at the special tokens": lambda p, S: np.concatenate([0 * p[:S], p[S:]]),
    "left out at the patches": lambda p, S: np.concatenate([p[:S], 0 * p[S:]]),
    "transposed: rows and columns of the grid are swapped": lambda p, S: _grid(
        p, S, lambda x: x.swapaxes(0, 1)
    ),
    "reshaped to (C,g,g) without moving the axes": lambda p, S: _grid(
        p, S, lambda x: x.reshape(x.shape[2], -1).T
    ),
    "shifted by one row": lambda p, S: np.roll(p, 1, axis=0),
    "shifted by one row backwards": lambda p, S: np.roll(p, -1, axis=0),
    "those of the first patches, from row 0 on": lambda p, S: np.concatenate(
        [p[:S], p[: len(p) - S]]
    ),
    "added twice": lambda p, S: 2 * p,
    "with the special tokens' rows last": lambda p, S: np.concatenate([p[S:], p[:S]]),
}


@mistake(
    "positions-of-patches", "grid_positions", values=tuple(POSITIONS),
    says="The position embeddings are {}.",
    yours="positions {}", right="row 0 for [CLS] (1 for DeiT's distillation token), then the grid, "
    "row by row",
    fix="add the table to the tokens; to interpolate, take the patches' rows alone, as (g,g,C), by "
    "rows of the grid",
)  # fmt: skip
def positions_of_patches(position, S, *, value):
    return POSITIONS[value](position, S)


READ = {
    "the mean of all tokens": lambda h, S: h.mean(axis=1),
    "the mean of the patches": lambda h, S: h[:, S:].mean(axis=1),
    "the last token": lambda h, S: h[:, -1],
    "the first patch": lambda h, S: h[:, S],
}


@mistake(
    "pooled-mean", "image_pool", values=tuple(READ),
    says="The image is read at {}, not at its special token.",
    yours="{} of h", right="h[:, 0] ([CLS]), h[:, 1] (DeiT's distillation token)",
    fix="hidden[:, 0] before the classifier",
)  # fmt: skip
def image_read_elsewhere(h, i, read, S, *, value):
    return READ[value](h, S)


@mistake(
    "heads-not-averaged", "answer",
    values=("[CLS]'s alone", "the distillation token's alone", "the sum"),
    says="DeiT's answer is not the mean of its two heads, but {}.",
    yours="{}", right="logits = (cls_logits + distillation_logits)/2",
    fix="average both heads in evaluation",
)  # fmt: skip
def heads_not_averaged(answers, *, value):
    chosen = {"[CLS]'s alone": answers[:1], "the distillation token's alone": answers[1:]}
    return sum(chosen.get(value, answers))
