"""Learning rates by layer, and parts of a model that are not trained.

With layer-wise decay X each part has X times the learning rate of the part above it. Of L layers:

    heads, a last LayerNorm    lr
    layer i = L−1 … 0          lr·X^(L−i)
    embeddings                 lr·X^(L+1)

A frozen part keeps its values: no update, no weight decay, no moments, and its gradients do not
enter the norm that clipping uses or the sum over ranks, as in PyTorch with requires_grad=False. The
backward ends above the frozen parts at the bottom; other gradients of frozen parts are computed and
dropped. The word table of a language model is part of the embeddings although its head uses it too.
In ALBERT a layer is a group of layers that share their parameters.
Sources: Howard & Ruder, "Universal language model fine-tuning", 2018, §3.2 (X = 1/2.6); Clark et
al., "ELECTRA", 2020, appendix B (X = 0.8; their code multiplies by X once more below the head).
"""

import re
from collections.abc import Sequence

from minidistil.config import EncoderDecoderConfig

EMBEDDINGS = "embeddings"
EMBEDDED = re.compile(r"(^|\.)(embeddings|embedding_hidden_mapping_in|wte|wpe)\.")
LAYER = re.compile(r"(?:^|\.)(?:layer|h|albert_layer_groups)\.(\d+)\.")


def layer_rates(model, config) -> dict[str, float]:
    """{name: what the learning rate is multiplied by} of the parameters of a model that are trained
    with `layer_decay` and `freeze` of a TrainConfig.

    Raises ValueError for a part that the model does not have, where nothing is left to train, and
    for an encoder–decoder, which has two stacks of layers.
    """
    names, X, freeze = list(model.params), config.layer_decay, config.freeze
    if X == 1 and not freeze:
        return dict.fromkeys(names, 1.0)
    if isinstance(model.config, EncoderDecoderConfig):
        raise ValueError(
            "layer_decay and freeze name the layers of one stack, and an encoder-decoder has two; "
            "leave them out"
        )
    L = 1 + max((part for part in map(part_of, names) if isinstance(part, int)), default=-1)
    heights = {EMBEDDINGS: 0} | {i: i + 1 for i in range(L)}
    if unknown := [part for part in freeze if part not in heights]:
        raise ValueError(
            f"freeze takes {EMBEDDINGS} and layers from 0 to {L - 1} of this model, not "
            f"{unknown[0]!r}; give some of them"
        )
    rates = {
        name: X ** (L + 1 - heights.get(part_of(name), L + 1))
        for name in names
        if part_of(name) not in freeze
    }
    if not rates:
        raise ValueError(f"freeze leaves nothing to train of {L} layers; give fewer parts")
    return rates


def part_of(name: str) -> str | int | None:
    """The part that a parameter of a checkpoint belongs to: EMBEDDINGS, the number of a layer, or
    None above the layers."""
    if found := LAYER.search(name):
        return int(found[1])
    return EMBEDDINGS if EMBEDDED.search(name) else None


def frozen_bottom(freeze: Sequence[str | int]) -> int:
    """The number of frozen parts from the embeddings up, without a gap."""
    bottom_up = (EMBEDDINGS, *range(len(freeze)))
    return next((n for n, part in enumerate(bottom_up) if part not in freeze), len(bottom_up))


def parts(text: str) -> tuple[str | int, ...]:
    """ "embeddings,0,1" -> ("embeddings", 0, 1)."""
    return tuple(int(part) if part.isdecimal() else part for part in text.split(","))
