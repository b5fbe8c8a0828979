"""Labels, loss and gradients of every quantity of GPT-2's program, and of a pre-norm block.

The loss is the mean cross-entropy of each token's successor; of a body, half the sum of squares of
its last hidden states.
"""

import numpy as np

from minidistil import losses
from minidistil.check.families.encoder_trace import attention_backward, norm_backward
from minidistil.check.reference_ops import activation_backward
from minidistil.model.encoder import scope
from minidistil.model.task_loss import IGNORED


def labels(program):
    """The labels (B,T), which the loss shifts by one column; a body has none."""
    if "lm" not in program.heads:
        return {}
    return {"labels": shifted_labels(program.ids, program.mask)}


def shifted_labels(ids, mask):
    """Each token's own id (B,T), −100 at padding and behind it, as padding predicts no token."""
    wanted = np.where(mask, ids, IGNORED)
    wanted[:, 1:][~mask[:, :-1]] = IGNORED
    wanted[:, 0] = IGNORED  # the first token has no predecessor
    return wanted


def loss(program, values, h):
    """The loss, and its gradients with respect to the model's outputs."""
    if "lm" not in program.heads:
        real = h * program.mask[:, :, None]
        return 0.5 * (real * real).sum(), {"last_hidden_state": real}
    z = values["logits"]
    value, d = losses.cross_entropy(z[:, :-1], labels(program)["labels"][:, 1:])
    return value, {"logits": np.concatenate([d, np.zeros_like(z[:, :1])], axis=1)}


# ------------------------------------------------------- the forward, read upwards


def gradients(program, values, ends):
    """The gradient of every quantity, in the order of the forward."""
    d = dict(ends)
    dh = d.pop("last_hidden_state", None)
    d["final_norm"] = d["logits"] @ program.p["embeddings.word.weight"] if dh is None else dh
    d["embeddings_sum"] = blocks_backward(program, values, d)
    return {name: d[name] for name in values if name in d}


def blocks_backward(program, values, d):
    """Add the gradients of all blocks to d, from that of final_norm  ->  dx₀ (B,T,C)."""
    last = values[f"layer.{program.a.L - 1}.output"]
    dx = norm_backward(d["final_norm"], last, program.p, "final_norm", program)
    for i in reversed(range(program.a.L)):
        dx = _block(program, values, i, dx, d)
    return dx


def _block(program, values, i, dy, d):
    """Gradient of a block's output (B,T,C)  ->  of its input (B,T,C)."""
    p, a = program.layers[i], program.a
    t = scope(values, f"layer.{i}")
    x = values["embeddings_sum"] if i == 0 else values[f"layer.{i - 1}.output"]
    g = {"output": dy, "lin2": dy}
    g["activation"] = g["lin2"] @ p["lin2.weight"]
    g["lin1"] = activation_backward(g["activation"], t["lin1"], name=a.activation)
    g["ffn_norm"] = g["lin1"] @ p["lin1.weight"]
    du = dy + norm_backward(g["ffn_norm"], t["attention_sum"], p, "ffn_norm", program)
    g["attention_sum"] = g["out"] = du
    g["context"] = g["out"] @ p["out.weight"]
    attention_backward(t, g, a.H)
    g["attention_norm"] = sum(g[z] @ p[f"{z}.weight"] for z in "qkv")
    d |= {f"layer.{i}.{name}": x for name, x in g.items()}
    return du + norm_backward(g["attention_norm"], x, p, "attention_norm", program)
