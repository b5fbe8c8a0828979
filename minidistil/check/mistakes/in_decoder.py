"""Mistakes in GPT-2: the order of LayerNorm and sums, and positions."""

import numpy as np

from minidistil.check.mistakes.registry import mistake

BLOCK = "u = x + attention(LN₁(x)),  y = u + ffn(LN₂(u))"


def _post_norm(x, attend, norm1, feed, norm2, residual):
    u = norm1(residual(x, attend(x), "attention_sum"))
    return norm2(residual(u, feed(u), "output"))


def _normed_branches(x, attend, norm1, feed, norm2, residual):
    u = residual(x, norm1(attend(x)), "attention_sum")
    return residual(u, norm2(feed(u)), "output")


def _parallel(x, attend, norm1, feed, norm2, residual):
    return residual(residual(x, attend(norm1(x)), "attention_sum"), feed(norm2(x)), "output")


def _parallel_one_norm(x, attend, norm1, feed, norm2, residual):
    n = norm1(x)
    return residual(residual(x, attend(n), "attention_sum"), feed(n), "output")


def _normed_residual(x, attend, norm1, feed, norm2, residual):
    n = norm1(x)
    u = residual(n, attend(n), "attention_sum")
    m = norm2(u)
    return residual(m, feed(m), "output")


def _normed_attention_residual(x, attend, norm1, feed, norm2, residual):
    n = norm1(x)
    u = residual(n, attend(n), "attention_sum")
    return residual(u, feed(norm2(u)), "output")


def _normed_ffn_residual(x, attend, norm1, feed, norm2, residual):
    u = residual(x, attend(norm1(x)), "attention_sum")
    m = norm2(u)
    return residual(m, feed(m), "output")


def _one_norm_twice(x, attend, norm1, feed, norm2, residual):
    u = residual(x, attend(norm1(x)), "attention_sum")
    return residual(u, feed(norm1(u)), "output")


def _norms_swapped(x, attend, norm1, feed, norm2, residual):
    u = residual(x, attend(norm2(x)), "attention_sum")
    return residual(u, feed(norm1(u)), "output")


def _ffn_first(x, attend, norm1, feed, norm2, residual):
    u = residual(x, feed(norm2(x)), "attention_sum")
    return residual(u, attend(norm1(u)), "output")


FORMS = {
    "post-norm": {
        "after each sum: y = LN₂(u + ffn(u))": _post_norm,
        "after each sublayer: y = u + LN₂(ffn(u))": _normed_branches,
    },
    "residual-normed": {
        "both sums": _normed_residual, "the sum of attention": _normed_attention_residual,
        "the sum of the feed-forward": _normed_ffn_residual,
    },
    "parallel-sublayers": {
        "y = x + attention(LN₁(x)) + ffn(LN₂(x))": _parallel,
        "y = x + attention(LN₁(x)) + ffn(LN₁(x))": _parallel_one_norm,
    },
    "norms-swapped": {
        "LN₂ before attention, LN₁ before the feed-forward": _norms_swapped,
        "LN₁ before both": _one_norm_twice,
    },
    "sublayers-swapped": {"the feed-forward precedes attention": _ffn_first},
}  # fmt: skip


def _block(id, says, yours, fix):
    """Enter the forms of a wrong block into the catalogue."""

    @mistake(id, "pre_norm_block", values=tuple(FORMS[id]), says=says, yours=yours, right=BLOCK,
             fix=fix)  # fmt: skip
    def wrong(*parts, value):
        return FORMS[id][value](*parts)


_block(
    "post-norm", "LayerNorm follows instead of preceding the sublayers ({}).",
    "u = LN₁(x + attention(x)) or x + LN₁(attention(x)), and so for the feed-forward",
    "pre-norm: normalise the sublayer's input, and add its output to the unnormalised x",
)  # fmt: skip
_block(
    "residual-normed", "The residual is the normalised x, not x itself ({}).",
    "n = LN₁(x),  u = n + attention(n)", "keep x: x = x + attention(ln_1(x))",
)  # fmt: skip
_block(
    "parallel-sublayers", "Both sublayers read the block's input ({}).", "{}",
    "the feed-forward reads the sum behind attention",
)  # fmt: skip
_block(
    "norms-swapped", "The block's LayerNorms are at the wrong places: {}.", "{}",
    "ln_1 before attention, ln_2 before the feed-forward",
)  # fmt: skip
_block(
    "sublayers-swapped", "The sublayers are in the wrong order: {}.",
    "u = x + ffn(LN₂(x)),  y = u + attention(LN₁(u))", "attention, then feed-forward",
)  # fmt: skip


@mistake(
    "final-norm-twice", "last_norm",
    says="The final LayerNorm is applied twice.",
    yours="h = LN(LN(x))", right="h = LN(x)", fix="normalise once, in the body or before the head",
)  # fmt: skip
def final_norm_twice(x, norm):
    return norm(norm(x))


PLACE = "x = word[id] + position[column],  column 0, 1, 2, …"


@mistake(
    "position-past", "places", values=tuple(range(1, 16)),
    says="Positions start again at column {}: those of new tokens do not count the cached ones.",
    yours="position[column − {}] from column {} on", right=PLACE,
    fix="positions past_length, …, past_length + T − 1",
)  # fmt: skip
def position_past(look_up, *, mask, value):
    columns = np.arange(mask.shape[1])
    if value >= len(columns):
        raise ValueError("the batch is shorter")
    return look_up(np.where(columns < value, columns, columns - value))


@mistake(
    "position-past", "places", values=("its own position 0",),
    says="Every token has position 0, as in steps of one token that do not count the cached ones.",
    yours="position[0] for all", right=PLACE, fix="positions past_length, …, past_length + T − 1",
)  # fmt: skip
def position_zero(look_up, *, mask, value):
    return look_up(np.zeros(mask.shape[1], int))


@mistake(
    "position-from-mask", "places", values=("0", "1"),
    says="Positions count the real tokens (from {}), where the model counts columns.",
    yours="position[cumsum(mask) − 1]", right=PLACE,
    fix="transformers' GPT-2 counts columns unless position_ids are given; with padding on the "
    "left its generate() counts tokens: use the same in both implementations",
)  # fmt: skip
def position_from_mask(look_up, *, mask, value):
    return look_up(np.maximum(mask.cumsum(axis=1) - 1, 0) + int(value))


@mistake(
    "position-reversed", "places",
    says="Positions run backwards.",
    yours="position[T − 1 − column]", right=PLACE, fix="positions 0, 1, …, T − 1",
)  # fmt: skip
def position_reversed(look_up, *, mask):
    return look_up(np.arange(mask.shape[1])[::-1])
