"""Labels, loss and gradients of every quantity of an encoder–decoder's program.

The loss is the mean cross-entropy of each target token's successor.
"""

import numpy as np

from minidistil import losses
from minidistil.check.families import encoder_trace
from minidistil.check.families.encoder_trace import attention_backward, norm_backward
from minidistil.model.encoder import scope
from minidistil.model.parameter_table import ENC_TO_DEC_PROJ
from minidistil.model.task_loss import IGNORED


def labels(program):
    """The labels (B,U): of each column the token of the next, −100 where there is none."""
    ids, mask = program.inputs["decoder_input_ids"], program.mask
    wanted = np.full(ids.shape, IGNORED)
    wanted[:, :-1] = np.where(mask[:, :-1] & mask[:, 1:], ids[:, 1:], IGNORED)
    return {"labels": wanted}


def loss(program, values, h):
    """The loss, and its gradient with respect to the logits."""
    value, d = losses.cross_entropy(values["logits"], labels(program)["labels"])
    return value, {"logits": d}


# ------------------------------------------------------- the forward, read upwards


def gradients(program, values, ends):
    """The gradient of every quantity, in the order of the forward."""
    d, own = {}, {}
    dx = encoder_trace.head_backward(program.decoder, values, ends, d)
    memory = values.get("memory")
    memory = values[f"encoder.layer.{program.encoder.a.L - 1}.output"] if memory is None else memory
    dm, inner = np.zeros_like(memory), scope(values, "decoder")
    for i in reversed(range(program.a.L)):
        dx, dm_block = _block(program.decoder, inner, i, dx, own)
        dm = dm + dm_block  # every block attends to the memory
    encoder_trace.sum_backward(program.decoder, inner, dx, own)
    d |= {f"decoder.{name}": x for name, x in own.items()}
    if "memory" in values:
        d["memory"] = dm
        dm = dm @ program.p[ENC_TO_DEC_PROJ[0]]
    own = {}
    encoder_trace.body_backward(program.encoder, scope(values, "encoder"), dm, own)
    d |= {f"encoder.{name}": x for name, x in own.items()}
    return {name: d[name] for name in values if name in d}


def _block(program, values, i, dy, d):
    """Gradient of a block's output (B,U,C)  ->  of its input (B,U,C), of the memory (B,T,C)."""
    p, t, g = program.layers[i], scope(values, f"layer.{i}"), {"output": dy}
    g["cross_norm"] = encoder_trace.feed_backward(program, p, t, g)
    ds = norm_backward(g["cross_norm"], t["cross_sum"], p, "cross_norm", program)
    g["cross_sum"] = g["cross_out"] = ds
    g["cross_context"] = g["cross_out"] @ p["cross_out.weight"]
    attention_backward(t, g, program.a.H, "cross_")
    dm = sum(g[f"cross_{z}"] @ p[f"cross_{z}.weight"] for z in "kv")
    g["attention_norm"] = ds + g["cross_q"] @ p["cross_q.weight"]
    dx = encoder_trace.self_attention_backward(program, p, t, g)
    d |= {f"layer.{i}.{name}": x for name, x in g.items()}
    return dx, dm
