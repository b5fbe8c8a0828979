"""The ops that a backward crosses between two quantities, in words."""

from collections.abc import Sequence

from minidistil.check.align import Reference
from minidistil.check.families.family import ENCODERS

CROSSED = {  # {quantity of an encoder: the op whose backward gives its gradient}
    "output_sum": "the LayerNorm after the feed-forward", "lin2": "the residual sum",
    "activation": "lin2", "lin1": "the activation", "attention_norm": "lin1 or the residual sum",
    "attention_sum": "the LayerNorm after attention", "out": "the residual sum",
    "context": "attention's output projection", "probs": "the weighted sum of the values",
    "v": "the weighted sum of the values", "scores": "the softmax", "q": "the product q·kᵀ/√D",
    "k": "the product q·kᵀ/√D", "output": "the layer or head behind it",
    "embeddings": "the first layer", "embeddings_mapping": "the first layer",
    "embeddings_sum": "the embeddings' LayerNorm", "transform_norm": "the head's last layer",
    "transform_activation": "the head's LayerNorm", "transform": "the head's activation",
    "pooled": "the head's last layer", "pooler": "the pooler's activation", "logits": "the loss",
    "start_logits": "the loss", "end_logits": "the loss", "spans": "the loss",
}  # fmt: skip


def between(reference: Reference, name: str, seen: Sequence[str]) -> str:
    """Where the backward is wrong, if the gradient of `name` is the first that differs.

    seen: the quantities whose gradients are known, read from the loss.
    """
    nearer = seen[: seen.index(name)]
    if not nearer:
        return "and none nearer to the loss is known"
    ops = crossed(reference, name, nearer[-1])
    return f"and that of {nearer[-1]} agrees: look at the backward of {ops}"


def crossed(reference: Reference, name: str, nearer: str) -> str:
    """The ops between a quantity and one that is nearer to the loss."""
    if reference.model.config.model_type not in ENCODERS:
        return "what lies between them"
    order = list(reference.values)
    names = order[order.index(name) : order.index(nearer)]
    return ", ".join(dict.fromkeys(map(_op, reversed(names))))


def _op(name):
    return CROSSED.get(name.rpartition(".")[2], name)
