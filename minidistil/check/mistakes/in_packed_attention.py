"""Mistakes around nn.MultiheadAttention: the order of packed weights, and the axis of the batch."""

import numpy as np

from minidistil.check import reference_ops
from minidistil.check.mistakes.registry import mistake

RIGHT = "softmax(q·kᵀ/√D)·v over the tokens of one text"


BY_HEADS = "q, k and v of head 0, then of head 1, …"
IN_THIRDS = "all of q, then k, then v, read as q, k and v of each head"


@mistake(
    "packed-order", "context_of", values=("vkq", "qvk", "kvq", "vqk", BY_HEADS, IN_THIRDS),
    says="The packed weights of q, k, v are in another order: {}.",
    yours="attention of {} in the places of q, k, v", right=RIGHT,
    fix="pack the rows of q, then those of k, then those of v (PyTorch's in_proj_weight)",
)  # fmt: skip
def packed_order(context, q, k, v, *, mask, n_heads, value):
    parts = [x.reshape(*x.shape[:2], n_heads, -1) for x in (q, k, v)]  # (B,T,H,D)
    if value == BY_HEADS:
        q, k, v = np.split(np.stack(parts, axis=3).reshape(*q.shape[:2], -1), 3, axis=2)
    elif value == IN_THIRDS:
        packed = np.concatenate(parts, axis=2).reshape(*q.shape[:2], n_heads, 3, -1)
        q, k, v = (packed[:, :, :, i].reshape(q.shape) for i in range(3))
    else:
        at = {"q": q, "k": k, "v": v}
        q, k, v = (at[n] for n in value)
    return reference_ops.attention(q, k, v, n_heads=n_heads, mask=mask)


@mistake(
    "batch-first", "context_of",
    values=("with the mask transposed", "without a mask"),
    says="Attention runs over the texts of the batch, not over the tokens ({}).",
    yours="softmax(q·kᵀ/√D)·v over the texts, at each column", right=RIGHT,
    fix="attend along the axis of tokens (PyTorch's nn.MultiheadAttention and "
    "nn.TransformerEncoderLayer take (T,B,C) unless batch_first=True)",
)  # fmt: skip
def batch_first(context, q, k, v, *, mask, n_heads, value):
    q, k, v = (x.swapaxes(0, 1) for x in (q, k, v))
    seen = np.ascontiguousarray(mask.T) if value == "with the mask transposed" else None
    out = reference_ops.attention(q, k, v, n_heads=n_heads, mask=seen, replaced={"weights": _safe})
    return out.swapaxes(0, 1)


def _safe(s, mask=None):
    """Attention weights, 0 where no key is left, as in scaled_dot_product_attention."""
    return np.nan_to_num(reference_ops.weights(s, mask))
