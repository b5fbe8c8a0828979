"""A linear layer or attention alone, in PyTorch and in ONNX Runtime, from our arrays.

Each peer gets its input in the format that it hands on within a model: a bfloat16 model of PyTorch
keeps bfloat16 between its layers, so the conversion is not part of the call.
"""

from minidistil.check import onnx_peer, torch_peer
from minidistil.io import files


def torch_linear(x, weight, bias, dtype):
    """x (N,I), weight (O,I), bias (O,)  ->  a function without arguments to y (N,O)."""
    torch, _ = torch_peer.import_torch()
    layer = torch.nn.Linear(*weight.shape[::-1]).eval()
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weight))
        layer.bias.copy_(torch.from_numpy(bias))
    x = torch.from_numpy(x)
    if dtype == "bfloat16":
        layer, x = layer.bfloat16(), x.bfloat16()
    elif dtype == "int8":
        layer = torch_peer.quantized(torch.nn.Sequential(layer))
    return _inference(torch, lambda: layer(x))


def torch_attention(q, k, v, lengths, n_heads, style):
    """q, k, v (N,C), sequences of one length T, style of (kind, dtype)  ->  a function to (N,C).

    kind: "eager" (two products and softmax) or "sdpa" (one fused kernel).
    """
    torch, _ = torch_peer.import_torch()
    (kind, dtype), T, (N, C) = style, lengths[0], q.shape
    heads = [torch.from_numpy(x).view(N // T, T, n_heads, -1).transpose(1, 2) for x in (q, k, v)]
    q, k, v = (x.to(getattr(torch, dtype)).contiguous() for x in heads)  # (B,H,T,D)

    def run():
        if kind == "sdpa":
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            scores = (q / q.shape[-1] ** 0.5) @ k.transpose(-1, -2)
            y = scores.softmax(-1) @ v
        return y.transpose(1, 2).reshape(N, C)

    return _inference(torch, run)


def _inference(torch, call):
    def run():
        with torch.inference_mode():
            return call().float().numpy()

    return run


def onnx_linear(x, weight, bias, path, threads, dtype):
    """The same; path: a file for the graph. Not for bfloat16."""
    g = onnx_peer.Graph()
    product = g.op("MatMul", ["x", g.constant(weight.T)])
    g.op("Add", [product, g.constant(bias)], ["y"])
    floats = g.onnx.TensorProto.FLOAT
    graph = g.proto({"x": (floats, ["N", x.shape[1]])}, {"y": ["N", len(bias)]})
    return _session(graph, path, threads, dtype, {"x": x})


def onnx_attention(q, k, v, lengths, n_heads, path, threads):
    """The same in float32; path: a file for the graph."""
    (N, C), T = q.shape, lengths[0]
    g = onnx_peer.Graph()
    g.op("MultiHeadAttention", ["q", "k", "v"], ["y"], onnx_peer.FUSED, num_heads=n_heads)
    floats, shape = g.onnx.TensorProto.FLOAT, ["B", "T", C]
    graph = g.proto(dict.fromkeys("qkv", (floats, shape)), {"y": shape})
    feed = {name: x.reshape(N // T, T, C) for name, x in zip("qkv", (q, k, v), strict=True)}
    run = _session(graph, path, threads, "float32", feed)
    return lambda: run().reshape(N, C)


def _session(graph, path, threads, dtype, feed):
    files.write_bytes(path, graph.SerializeToString())
    session = onnx_peer.session(onnx_peer.quantized(path) if dtype == "int8" else path, threads)
    return lambda: session.run(["y"], feed)[0]
