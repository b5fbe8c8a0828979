"""Labels, loss and gradients of every quantity of an encoder's `Program`.

The loss is a mean cross-entropy:

* masked LM: every token is its own label;
* classification of texts, tokens or choices: the label is class 0;
* question answering: start and end are the first token, and the loss is the mean of both.

The loss of a body is half the sum of squares of its last hidden states.
"""

import math

import numpy as np

from minidistil import distilbert as page
from minidistil import losses
from minidistil.check.reference_ops import activation_backward
from minidistil.model.encoder import scope
from minidistil.model.task_loss import IGNORED


def labels(program):
    """The labels of the loss: (B,T), with -100 at the padding, or (B,); a body has none."""
    if "spans" in program.heads:
        first = program.mask.argmax(axis=1)
        return {"start_positions": first, "end_positions": first}
    if {"mlm", "tokens"} & set(program.heads):
        wanted = program.ids if "mlm" in program.heads else 0
        return {"labels": np.where(program.mask, wanted, IGNORED)}
    if {"classifier", "out_proj", "choice"} & set(program.heads):
        return {"labels": np.zeros(len(program.ids) // program.rows.choices, np.int64)}
    return {}


def loss(program, values, h):
    """The loss, and its gradients with respect to the model's outputs."""
    wanted = labels(program)
    if "spans" in program.heads:
        both = {
            f"{end}_logits": _column(program, values[f"{end}_logits"], wanted[f"{end}_positions"])
            for end in ("start", "end")
        }
        return np.mean([value for value, _ in both.values()]), {
            n: d / 2 for n, (_, d) in both.items()
        }
    if not wanted:
        real = h * program.mask[:, :, None]
        return 0.5 * (real * real).sum(), {"last_hidden_state": real}
    logits, choices = values["logits"], program.rows.choices
    logits = logits.reshape(-1, choices) if choices > 1 else logits
    value, d = losses.cross_entropy(logits, wanted["labels"])
    return value, {"logits": d}


def _column(program, z, columns):
    """z (B,T,1), columns (B,)  ->  cross-entropy over the real tokens, its gradient (B,T,1)."""
    value, d = losses.cross_entropy(np.where(program.mask, z[:, :, 0], -np.inf), columns)
    return value, d[:, :, None]


# ------------------------------------------------------- the forward, read upwards


def gradients(program, values, ends):
    """The gradient of every quantity, in the order of the forward."""
    d = {}
    dx = (
        ends["last_hidden_state"]
        if "last_hidden_state" in ends
        else head_backward(program, values, ends, d)
    )
    body_backward(program, values, dx, d)
    return {name: d[name] for name in values if name in d}


def body_backward(program, values, dx, d):
    """Add the gradients of all blocks and of the embeddings to d, from that of the last block."""
    for i in reversed(range(program.a.L)):
        dx = _layer(program, values, i, dx, d)
    if "embeddings_mapping" in values:
        d["embeddings_mapping"] = dx
        dx = dx @ program.p["embeddings.mapping.weight"]
    sum_backward(program, values, dx, d)


def sum_backward(program, values, dx, d):
    """Add the gradients of the embeddings and of their sum to d, from the first."""
    d["embeddings"] = dx
    d["embeddings_sum"] = norm_backward(
        dx, values["embeddings_sum"], program.p, "embeddings.norm", program
    )


def norm_backward(dy, x, p, name, program):
    """Through a LayerNorm: its output's gradient (B,T,C)  ->  its input's."""
    _, cache = page.layernorm(x, p[f"{name}.weight"], p[f"{name}.bias"], program.a.eps)
    return page.layernorm_backward(dy, cache)[0]


def head_backward(program, values, ends, d):
    """Gradients of the outputs  ->  of the last hidden states (B,T,C)."""
    p, a = program.p, program.a
    d |= ends
    if "spans" in program.heads:
        d["spans"] = np.concatenate([ends["start_logits"], ends["end_logits"]], axis=2)
        return d["spans"] @ p["spans.weight"]
    dlogits = d["logits"] = ends["logits"].reshape(values["logits"].shape)
    if "tokens" in program.heads:
        return dlogits @ p["classifier.weight"]
    if "mlm" in program.heads:
        d["transform_norm"] = dlogits @ p["embeddings.word.weight"]
        g = values["transform_activation"]
        d["transform_activation"] = norm_backward(
            d["transform_norm"], g, p, "transform_norm", program
        )
        z, name = values["transform"], a.transform_activation
        d["transform"] = activation_backward(d["transform_activation"], z, name=name)
        return d["transform"] @ p["transform.weight"]
    last, first = ("out_proj", "dense") if "dense" in program.heads else ("classifier", "pooler")
    d["pooled"] = dlogits @ p[f"{last}.weight"]
    d["pooler"] = activation_backward(d["pooled"], values["pooler"], name=a.pooler_activation)
    dh = np.zeros((*program.mask.shape, a.C))
    dh[:, 0] = d["pooler"] @ p[f"{first}.weight"]
    return dh


def attention_backward(t, g, H, prefix=""):
    """Add to g the gradients of probs, scores, q, k and v, from that of context. t: the values of a
    layer. prefix: "cross_" for cross attention."""

    def split(name):
        return page.split_heads(t[prefix + name], H)

    dcontext = page.split_heads(g[f"{prefix}context"], H)
    g[f"{prefix}probs"] = dprobs = dcontext @ split("v").swapaxes(2, 3)
    g[f"{prefix}scores"] = ds = page.softmax_backward(dprobs, t[f"{prefix}probs"])
    ds = ds / math.sqrt(dcontext.shape[3])
    g[f"{prefix}q"] = page.merge_heads(ds @ split("k"))
    g[f"{prefix}k"] = page.merge_heads(ds.swapaxes(2, 3) @ split("q"))
    g[f"{prefix}v"] = page.merge_heads(t[f"{prefix}probs"].swapaxes(2, 3) @ dcontext)


def feed_backward(program, p, t, g):
    """y = LN(u + ffn(u)): add to g the gradients of the sum and of the feed-forward, from that of
    output  ->  du (B,T,C).  p: the parameters of a layer, t: its values."""
    ds = norm_backward(g["output"], t["output_sum"], p, "output_norm", program)
    g["output_sum"] = g["lin2"] = ds
    g["activation"] = g["lin2"] @ p["lin2.weight"]
    g["lin1"] = activation_backward(g["activation"], t["lin1"], name=program.a.activation)
    return ds + g["lin1"] @ p["lin1.weight"]


def self_attention_backward(program, p, t, g):
    """u = LN(x + attention(x)): add to g the gradients of the sum and of attention, from that of
    attention_norm  ->  dx (B,T,C).  p, t: as for `feed_backward`."""
    ds = norm_backward(g["attention_norm"], t["attention_sum"], p, "attention_norm", program)
    g["attention_sum"] = g["out"] = ds
    g["context"] = g["out"] @ p["out.weight"]
    attention_backward(t, g, program.a.H)
    return ds + sum(g[z] @ p[f"{z}.weight"] for z in "qkv")


def _layer(program, values, i, dy, d):
    """Gradient of a block's output (B,T,C)  ->  of its input (B,T,C)."""
    p, t, g = program.layers[i], scope(values, f"layer.{i}"), {"output": dy}
    g["attention_norm"] = feed_backward(program, p, t, g)
    dx = self_attention_backward(program, p, t, g)
    d |= {f"layer.{i}.{name}": x for name, x in g.items()}
    return dx
