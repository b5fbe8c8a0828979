"""Labels, loss and gradients of every quantity of a ViT's or DeiT's program.

The loss is the mean cross-entropy of the logits with class 0; of a body, half the sum of squares of
its last hidden states.
"""

import numpy as np

from minidistil import losses
from minidistil.check.families.decoder_trace import blocks_backward
from minidistil.check.families.image_program import QUANTITY
from minidistil.model.vision.vision_encoder import BODY


def labels(program):
    """The labels (B,), all of class 0; a body has none."""
    if program.task == BODY:
        return {}
    return {"labels": np.zeros(len(program.mask), np.int64)}


def loss(program, values, h):
    """The loss, and its gradients with respect to the model's outputs."""
    if program.task == BODY:
        return 0.5 * (h * h).sum(), {"last_hidden_state": h}
    value, d = losses.cross_entropy(values["logits"], labels(program)["labels"])
    return value, {"logits": d}


# ------------------------------------------------------- the forward, read upwards


def gradients(program, values, ends):
    """The gradient of every quantity, in the order of the forward."""
    d = dict(ends)
    dh = d.pop("last_hidden_state", None)
    if program.task == BODY:  # the pooler does not enter the loss
        d |= {name: np.zeros_like(values[name]) for name in ("pooler", "pooled")}
    else:
        dh = np.zeros_like(values["final_norm"])
        for i, head in enumerate(program.heads):
            z = QUANTITY[head]
            d[z] = d[z] if z in d else d["logits"] / len(program.heads)
            dh[:, i] = d[z] @ program.p[f"{head}.weight"]
    d["final_norm"] = dh
    dx = d["embeddings_sum"] = d["embeddings_tokens"] = blocks_backward(program, values, d)
    d["embeddings_patches"] = dx[:, program.order[0] :]
    return {name: d[name] for name in values if name in d}
