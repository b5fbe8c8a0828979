"""Every intermediate value of a model on a batch, and the gradient of the loss with respect to it.

The values are those of `Program`; the backward is its forward read upwards, unfused, so that every
gradient is available. Both are (B,T,·), with zeros at the padding. The loss is a mean
cross-entropy:

* masked LM: every token is its own label;
* classification of texts, tokens or choices: the label is class 0;
* question answering: start and end are the first token, and the loss is the mean of both.

The loss of a body is half the sum of squares of its last hidden states.
"""

import math
from collections.abc import Mapping

import numpy as np

from minidistil import distilbert as page
from minidistil import losses
from minidistil.check.program import Program, check_family
from minidistil.check.reference_ops import activation_backward
from minidistil.model.encoder import scope
from minidistil.model.model import Model
from minidistil.ops import backend


def trace(model: Model, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{name: array} of everything: input.*, value.*, gradient.*, parameter_gradient.*, loss.

    batch: input_ids and optionally attention_mask and token_type_ids, (B,T). Computed in float64,
    returned in float32. Raises ValueError for a family that `Program` does not have.
    """
    check_family(model, "trace")
    named = {f"input.{name}": x for name, x in inputs_of(model, batch).items()}
    for name, x in values_and_gradients(model, batch, "float64").items():
        named[name] = x.astype(np.float32)
    return named


def inputs_of(model: Model, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a batch, and the labels of the loss under the names of `Model.forward`;
    integers are int64."""
    arrays = {name: np.asarray(x) for name, x in batch.items()} | _labels(Program(model, batch))
    return {n: x if x.dtype.kind == "f" else x.astype(np.int64) for n, x in arrays.items()}


def about_model(model: Model) -> dict[str, str]:
    """What an implementation needs beside the batch, as texts: sizes that no shape shows, and the
    name in model.safetensors of each parameter: {canonical name: name}."""
    a = model.config.architecture
    about = {"model_type": model.config.model_type, "task": model.task, "n_layers": a.L,
             "n_heads": a.H, "eps": a.eps, "activation": a.activation}  # fmt: skip
    return {name: str(x) for name, x in about.items()} | model.names


def values_and_gradients(
    model: Model, batch: Mapping[str, np.ndarray], dtype: str
) -> dict[str, np.ndarray]:
    """value.*, gradient.*, parameter_gradient.* and loss, computed in "float64" or "float32"."""
    program = Program(model, batch, np.dtype(dtype))
    values, mask = program.run(), program.mask
    x = values.pop(None)
    loss, ends = _loss(program, values, x)
    same = model.with_ops(backend("numpy", dtype))
    out = same.forward(**batch)
    cotangents = {f"d{name}": d.reshape(getattr(out, name).shape) for name, d in ends.items()}
    named = {f"value.{name}": _unpadded(x, mask) for name, x in values.items()}
    for name, d in _gradients(program, values, ends).items():
        named[f"gradient.{name}"] = _unpadded(d, mask)
    grads = same.backward(out, **cotangents)
    named |= {f"parameter_gradient.{name}": g for name, g in grads.items()}
    return named | {"loss": np.array([loss], dtype)}


def _unpadded(x, mask):
    """Zeros at the padding."""
    if x.ndim == 4:
        x = x * (mask[:, None, :, None] & mask[:, None, None, :])
    return x * mask[:, :, None] if x.ndim == 3 else x


def _labels(program):
    """The labels of the loss: (B,T), with -100 at the padding, or (B,); a body has none."""
    if "spans" in program.heads:
        first = program.mask.argmax(axis=1)
        return {"start_positions": first, "end_positions": first}
    if {"mlm", "tokens"} & set(program.heads):
        wanted = program.ids if "mlm" in program.heads else 0
        return {"labels": np.where(program.mask, wanted, -100)}
    if {"classifier", "out_proj", "choice"} & set(program.heads):
        return {"labels": np.zeros(len(program.ids) // program.rows.choices, np.int64)}
    return {}


def _loss(program, values, h):
    """The loss, and its gradients with respect to the model's outputs."""
    labels = _labels(program)
    if "spans" in program.heads:
        both = {
            f"{end}_logits": _column(program, values[f"{end}_logits"], labels[f"{end}_positions"])
            for end in ("start", "end")
        }
        return np.mean([loss for loss, _ in both.values()]), {
            n: d / 2 for n, (_, d) in both.items()
        }
    if not labels:
        real = h * program.mask[:, :, None]
        return 0.5 * (real * real).sum(), {"last_hidden_state": real}
    logits, choices = values["logits"], program.rows.choices
    logits = logits.reshape(-1, choices) if choices > 1 else logits
    loss, d = losses.cross_entropy(logits, labels["labels"])
    return loss, {"logits": d}


def _column(program, z, columns):
    """z (B,T,1), columns (B,)  ->  cross-entropy over the real tokens, its gradient (B,T,1)."""
    loss, d = losses.cross_entropy(np.where(program.mask, z[:, :, 0], -np.inf), columns)
    return loss, d[:, :, None]


# ------------------------------------------------------- the forward, read upwards


def _gradients(program, values, ends):
    """The gradient of every quantity, in the order of the forward."""
    d = {}
    dx = (
        ends["last_hidden_state"]
        if "last_hidden_state" in ends
        else _head(program, values, ends, d)
    )
    for i in reversed(range(program.a.L)):
        dx = _layer(program, values, i, dx, d)
    if "embeddings_mapping" in values:
        d["embeddings_mapping"] = dx
        dx = dx @ program.p["embeddings.mapping.weight"]
    d["embeddings"] = dx
    d["embeddings_sum"] = _norm(dx, values["embeddings_sum"], program.p, "embeddings.norm", program)
    return {name: d[name] for name in values if name in d}


def _norm(dy, x, p, name, program):
    """Through a LayerNorm: its output's gradient (B,T,C)  ->  its input's."""
    _, cache = page.layernorm(x, p[f"{name}.weight"], p[f"{name}.bias"], program.a.eps)
    return page.layernorm_backward(dy, cache)[0]


def _head(program, values, ends, d):
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
        d["transform_activation"] = _norm(d["transform_norm"], g, p, "transform_norm", program)
        z, name = values["transform"], a.transform_activation
        d["transform"] = activation_backward(d["transform_activation"], z, name=name)
        return d["transform"] @ p["transform.weight"]
    last, first = ("out_proj", "dense") if "dense" in program.heads else ("classifier", "pooler")
    d["pooled"] = dlogits @ p[f"{last}.weight"]
    d["pooler"] = activation_backward(d["pooled"], values["pooler"], name=a.pooler_activation)
    dh = np.zeros((*program.mask.shape, a.C))
    dh[:, 0] = d["pooler"] @ p[f"{first}.weight"]
    return dh


def _layer(program, values, i, dy, d):
    """Gradient of a block's output (B,T,C)  ->  of its input (B,T,C)."""
    p, a = program.layers[i], program.a
    t = scope(values, f"layer.{i}")
    g = {"output": dy}
    g["output_sum"] = g["lin2"] = _norm(dy, t["output_sum"], p, "output_norm", program)
    g["activation"] = g["lin2"] @ p["lin2.weight"]
    g["lin1"] = activation_backward(g["activation"], t["lin1"], name=a.activation)
    g["attention_norm"] = g["output_sum"] + g["lin1"] @ p["lin1.weight"]
    ds = _norm(g["attention_norm"], t["attention_sum"], p, "attention_norm", program)
    g["attention_sum"] = g["out"] = ds
    g["context"] = g["out"] @ p["out.weight"]
    q, k, v, dcontext = (
        page.split_heads(x, a.H) for x in (t["q"], t["k"], t["v"], g["context"])
    )  # fmt: skip
    g["probs"] = dcontext @ v.swapaxes(2, 3)
    g["scores"] = page.softmax_backward(g["probs"], t["probs"])
    dproduct = g["scores"] / math.sqrt(a.C // a.H)
    g["q"], g["k"] = page.merge_heads(dproduct @ k), page.merge_heads(dproduct.swapaxes(2, 3) @ q)
    g["v"] = page.merge_heads(t["probs"].swapaxes(2, 3) @ dcontext)
    d |= {f"layer.{i}.{name}": x for name, x in g.items()}
    return ds + sum(g[z] @ p[f"{z}.weight"] for z in "qkv")
