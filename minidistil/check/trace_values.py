"""Every intermediate value of a model on a batch, and the gradient of the loss with respect to it.

The values are those of the family's program; the backward is its forward read upwards, unfused, so
that every gradient is available. Both are (B,T,·), with zeros at the padding. The loss is a mean
cross-entropy, or of a body half the sum of squares of its last hidden states; the files named
…_trace.py say with which labels.
"""

from collections.abc import Mapping

import numpy as np

from minidistil.check.families.family import program_of, trace_of
from minidistil.model.model import Model
from minidistil.ops import backend


def trace(model: Model, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """{name: array} of everything: input.*, value.*, gradient.*, parameter_gradient.*, loss.

    batch: the arrays that the model's forward takes, without labels. Computed in float64, returned
    in float32. Raises ValueError for a family without a program.
    """
    named = {f"input.{name}": x for name, x in inputs_of(model, batch).items()}
    for name, x in values_and_gradients(model, batch, "float64").items():
        named[name] = x.astype(np.float32)
    return named


def inputs_of(model: Model, batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The arrays of a batch, and the labels of the loss under the names of `Model.forward`;
    integers are int64."""
    program = program_of(model)(model, batch)
    arrays = {name: np.asarray(x) for name, x in batch.items()} | trace_of(model).labels(program)
    return {n: x if x.dtype.kind == "f" else x.astype(np.int64) for n, x in arrays.items()}


def about_model(model: Model) -> dict[str, str]:
    """What an implementation needs beside the batch, as texts: sizes that no shape shows, and the
    name in model.safetensors of each parameter: {canonical name: name}."""
    a = model.config.architecture
    about = {"model_type": model.config.model_type, "task": model.task, "n_layers": a.L,
             "n_heads": a.H, "eps": a.eps, "activation": a.activation}  # fmt: skip
    return {name: str(x) for name, x in about.items()} | program_of(model).roles(model)


def values_and_gradients(
    model: Model, batch: Mapping[str, np.ndarray], dtype: str
) -> dict[str, np.ndarray]:
    """value.*, gradient.*, parameter_gradient.* and loss, computed in "float64" or "float32"."""
    program, tracer = program_of(model)(model, batch, np.dtype(dtype)), trace_of(model)
    values, frame = program.run(), program.frame
    loss, ends = tracer.loss(program, values, values.pop(None))
    same = model.with_ops(backend("numpy", dtype))
    out = same.forward(**program.inputs)
    cotangents = {f"d{name}": d.reshape(getattr(out, name).shape) for name, d in ends.items()}
    named = {f"value.{name}": frame.unpadded(x) for name, x in values.items()}
    for name, d in tracer.gradients(program, values, ends).items():
        named[f"gradient.{name}"] = frame.unpadded(d)
    grads = same.backward(out, **cotangents)
    named |= {f"parameter_gradient.{name}": g for name, g in grads.items()}
    return named | {"loss": np.array([loss], dtype)}
