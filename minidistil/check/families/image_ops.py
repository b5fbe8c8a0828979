"""Reference ops of ViT and DeiT, each replaceable by a faulty variant."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minidistil.model.vision.vision_encoder import patches


class TokenOrder(NamedTuple):
    """The order of an image's tokens, S special ones and n patches."""

    join: Callable  # (specials (B,S,C), patches (B,n,C)) -> tokens (B,T,C)
    positions: Callable  # position table (T,C) -> that of the tokens in this order
    read: Callable  # (hidden states (B,T,C), i) -> those of special token i (B,C)


def token_order(S, n):
    """The special tokens, then the patches."""
    return TokenOrder(
        lambda specials, x: np.concatenate([specials, x], axis=1),
        lambda position: position,
        lambda h, i: h[:, i],
    )


def pixels(x):
    """The images (B,channels,S,S), scaled already by the folder's preprocessor."""
    return x


def cut(x, size):
    """Images (B,channels,S,S)  ->  patches (B,n,channels·size²), row by row."""
    flat = patches(x, size)
    return flat.reshape(len(x), -1, flat.shape[1])


def grid_positions(position, S):
    """The position table (T,C), S rows for the special tokens and one for each patch."""
    return position


def placed(x, position):
    """Tokens x (B,T,C), their positions (T,C)  ->  the sum (B,T,C)."""
    return x + position


def image_pool(h, i, read, S):
    """Hidden states (B,T,C)  ->  those of special token i (B,C)."""
    return read(h, i)


def answer(answers):
    """The logits of all heads, each (B,K)  ->  their mean (B,K)."""
    return sum(answers) / len(answers)


IMAGE_OPS = {
    f.__name__: f
    for f in (token_order, pixels, cut, grid_positions, placed, image_pool, answer)
}  # fmt: skip
