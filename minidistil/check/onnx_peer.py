"""ONNX Runtime on a graph that is written from one of our models.

The graph consists of the fused operators that ONNX Runtime's transformer optimizer finds in an
exported BERT: EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu. Written
directly, the graph computes the same bits and needs no exporter. Products stay MatMul; the runtime
packs their constant operands.
"""

from pathlib import Path

import numpy as np

from minidistil.io import files

FUSED = "com.microsoft"  # the domain of ONNX Runtime's own operators
OPSET, IR = 17, 9
# Tells the quantiser that the graph is preprocessed; its own preprocessing would change nothing.
PREPARED = {"onnx.quant.pre_process": "onnxruntime.quant"}


def encoder(model, folder, threads, dtype="float32"):
    """A body  ->  a function from ids, mask (B,T) to the last hidden state (B,T,C).

    folder: the graph is written there and read back. dtype: "float32", or "int8" for ONNX Runtime's
    dynamic quantisation with signed weights. Raises ValueError for another dtype, ImportError.
    """
    if dtype not in ("float32", "int8"):
        raise ValueError(f"ONNX Runtime has no {dtype} products on processors")
    path = Path(folder) / f"{model.config.model_type}.onnx"
    if not path.exists():
        files.write_bytes(path, graph(model).SerializeToString())
    if dtype == "int8":
        path = quantized(path)
    encoding = session(path, threads)

    def run(ids, mask):
        feed = {"input_ids": ids.astype(np.int32), "attention_mask": mask.astype(np.int32)}
        return encoding.run(["last_hidden_state"], feed)[0]

    return run


def session(path, threads):
    """The graph in a file, ready to run on that many threads."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.log_severity_level = 3  # errors
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def quantized(path):
    """The same graph with int8 weights and products, in a file beside it."""
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    small = path.with_suffix(".int8.onnx")
    if not small.exists():
        # The quantiser does not infer the output type of the runtime's own operators.
        options = {"DefaultTensorType": onnx.TensorProto.FLOAT}
        quantize_dynamic(path, small, weight_type=QuantType.QInt8, extra_options=options)
    return small


def graph(model):
    """A BERT or DistilBERT body  ->  onnx.ModelProto; its pooler, if any, included."""
    a, p, g = model.config.architecture, model.canonical(), Graph()
    x = _embed(g, p, a)
    for i in range(a.L):
        x = _block(g, x, {k.removeprefix(f"layer.{i}."): v for k, v in p.items()
                          if k.startswith(f"layer.{i}.")}, a)  # fmt: skip
    g.op("Identity", [x], ["last_hidden_state"])
    outputs = {"last_hidden_state": ["B", "T", a.C]}
    if "pooler" in model.heads:
        first = g.op("Gather", [x, g.constant(np.array(0))], axis=1)
        z = g.op("Gemm", [first, g.constant(p["pooler.weight"]), g.constant(p["pooler.bias"])],
                 transB=1)  # fmt: skip
        g.op("Tanh", [z], ["pooler_output"])
        outputs["pooler_output"] = ["B", a.C]
    ids = g.onnx.TensorProto.INT32, ["B", "T"]
    return g.proto({"input_ids": ids, "attention_mask": ids}, outputs)


def _embed(g, p, a):
    ids, kinds = "input_ids", ("", "")
    if a.types:  # every token is of type 0
        kinds = g.op("Sub", [ids, ids]), g.constant(p["embeddings.type.weight"])
    word, position, gamma, beta = (
        g.constant(p[f"embeddings.{name}"])
        for name in ("word.weight", "position.weight", "norm.weight", "norm.bias")
    )
    inputs = [ids, kinds[0], word, position, kinds[1], gamma, beta]
    # The second output, the mask in another form, is unused.
    outputs = ["embedded", "unused"]
    return g.op("EmbedLayerNormalization", inputs, outputs, FUSED, epsilon=a.eps)


def _block(g, x, p, a):
    """x (B,T,C)  ->  y (B,T,C).  p: the block's parameters by role."""

    def weight(role):  # (I,O) for MatMul
        return g.constant(p[f"{role}.weight"].T)

    def added(y, residual, role, norm):  # LN(y + bias + residual)
        parts = [g.constant(p[name]) for name in (f"{norm}.weight", f"{norm}.bias", f"{role}.bias")]
        inputs = [y, residual, *parts]
        return g.op("SkipLayerNormalization", inputs, None, FUSED, epsilon=a.eps)

    qkv = g.constant(np.concatenate([p[f"{role}.weight"].T for role in "qkv"], axis=1))  # (C,3C)
    bias = g.constant(np.concatenate([p[f"{role}.bias"] for role in "qkv"]))
    inputs = [x, qkv, bias, "attention_mask"]
    context = g.op("Attention", inputs, None, FUSED, num_heads=a.H)
    u = added(g.op("MatMul", [context, weight("out")]), x, "out", "attention_norm")
    h = g.op("MatMul", [u, weight("lin1")])
    h = g.op("BiasGelu", [h, g.constant(p["lin1.bias"])], None, FUSED)
    return added(g.op("MatMul", [h, weight("lin2")]), u, "lin2", "output_norm")


class Graph:
    """A graph under construction: numbered nodes and constants."""

    def __init__(self):
        import onnx

        self.onnx, self.nodes, self.constants = onnx, [], []

    def constant(self, array):
        name = f"constant_{len(self.constants)}"
        array = np.ascontiguousarray(array) if array.ndim else array
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name

    def op(self, kind, inputs, outputs=None, domain="", **attributes):
        """Append a node; returns the name of its first output."""
        outputs = outputs or [f"value_{len(self.nodes)}"]
        make = self.onnx.helper.make_node
        self.nodes.append(make(kind, inputs, outputs, domain=domain, **attributes))
        return outputs[0]

    def proto(self, inputs, outputs):
        """The model. inputs: {name: (type, shape)}; outputs: {name: shape}, all of floats."""
        helper, kinds = self.onnx.helper, self.onnx.TensorProto
        value = helper.make_tensor_value_info
        made = helper.make_graph(
            self.nodes, "graph", [value(name, *kind) for name, kind in inputs.items()],
            [value(name, kinds.FLOAT, shape) for name, shape in outputs.items()], self.constants,
        )  # fmt: skip
        versions = [helper.make_opsetid("", OPSET), helper.make_opsetid(FUSED, 1)]
        model = helper.make_model(made, opset_imports=versions, ir_version=IR)
        helper.set_model_props(model, PREPARED)
        return model
