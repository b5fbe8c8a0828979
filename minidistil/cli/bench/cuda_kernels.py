"""CUDA kernels one by one: the share of the device's peak that each achieves, in the same run.

A kernel is bound by memory or by arithmetic. The ceilings are measured by small kernels that only
copy, only multiply and add in registers, or only feed tensor cores from registers. Bytes and
operations are those that the mathematics needs; data that a kernel moves twice lowers its share.
"""

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from minidistil.cli.bench.workloads import SIZES
from minidistil.io.console import progress
from minidistil.ops import (
    PRECISIONS,
    add,
    add_layernorm,
    attention,
    binary_cross_entropy,
    cosine,
    cross_entropy,
    embedding,
    gelu,
    kl_div,
    layernorm,
    linear,
    linear_gelu,
    mae,
    matmul_precision,
    moments,
    mse,
    relation,
    relu,
    softmax,
    tanh,
    vocabulary,
)
from minidistil.ops.kernels import peak_cuda
from minidistil.ops.runtime.cuda import module, to_device, to_host

LENGTHS = {"base": (128,) * 32, "small": (64,) * 8, "tiny": (3, 1)}
ROUNDS, CALLS = 7, 10


@dataclass(frozen=True)
class Kernel:
    """One line of the table: a call, and the bytes or operations that it needs at least."""

    name: str
    run: Any  # a function without arguments
    bound: str  # "bytes", or the precision whose operations count
    amount: float  # bytes, or operations


def measure(size, rounds=ROUNDS, calls=CALLS):
    """{"ceilings": {name: a second}, "kernels": [{name, ms, spread, rate, bound, share}]}."""
    large = size != "tiny"
    probes = {"bytes": peak_cuda.copy, "highest": peak_cuda.multiply_add,
              "high": peak_cuda.tf32, "medium": peak_cuda.bf16}  # fmt: skip
    ceilings = {}
    for name, probe in probes.items():
        run, amount = probe(large)
        ceilings[name] = amount / statistics.median(_times(run, rounds, calls))
    found = []
    for kernel in progress(list(_kernels(size)), "kernels"):
        times = _times(kernel.run, rounds, calls)
        rate = kernel.amount / statistics.median(times)
        found.append({
            "name": kernel.name, "ms": 1e3 * statistics.median(times), "bound": kernel.bound,
            "ms_spread": 1e3 * (max(times) - min(times)) / 2, "rate": rate,
            "share": rate / ceilings[kernel.bound],
        })  # fmt: skip
    return {"ceilings": ceilings, "kernels": found}


def _times(run, rounds, calls):
    """Seconds a call, one a round; the first call, which compiles, is not timed."""
    run()
    times = []
    for _ in range(rounds):
        module().synchronize()
        start = time.perf_counter()
        for _ in range(calls):
            run()
        module().synchronize()
        times.append((time.perf_counter() - start) / calls)
    return times


def _kernels(size):
    V, C, H, F, _, _ = SIZES[size]
    lengths, rng = LENGTHS[size], np.random.default_rng(0)
    N, squares = sum(lengths), sum(t * t for t in lengths)

    def array(*shape):
        return to_device(rng.standard_normal(shape, np.float32))

    x, z, wide, gamma, beta = array(N, C), array(N, C), array(N, F), array(C), array(C)
    row = 4 * N * C  # bytes
    _, norm = layernorm.forward_cuda(x, gamma, beta)
    _, softened = softmax.forward_cuda(x)
    _, bent = tanh.forward_cuda(x)
    _, spread = moments.forward_cuda(x)
    pulls = array(2, N)
    ids = rng.integers(0, V, N)
    table = array(V, C)
    for name, run, rows in (
        ("add", lambda: add.forward_cuda(x, z), 3),
        ("layernorm", lambda: layernorm.forward_cuda(x, gamma, beta), 3),
        ("layernorm backward", lambda: layernorm.backward_cuda(z, norm), 3),
        ("add_layernorm", lambda: add_layernorm.forward_cuda(x, z, gamma, beta), 4),
        ("softmax", lambda: softmax.forward_cuda(x), 2),
        ("softmax backward", lambda: softmax.backward_cuda(z, softened), 3),
        ("gelu", lambda: gelu.forward_cuda(x), 2),
        ("relu", lambda: relu.forward_cuda(x), 2),
        ("relu backward", lambda: relu.backward_cuda(z, x), 3),
        ("tanh", lambda: tanh.forward_cuda(x), 2),
        ("tanh backward", lambda: tanh.backward_cuda(z, bent), 3),
        # A token's two moments are too few to count beside its channels.
        ("moments", lambda: moments.forward_cuda(x), 1),
        ("moments backward", lambda: moments.backward_cuda(pulls, spread), 2),
        ("embedding", lambda: embedding.forward_cuda(table, ids=ids), 2),
    ):
        yield Kernel(name, run, "bytes", rows * row)
    labels = rng.integers(0, V, N)
    yield from _losses(x, z, to_device(rng.random((N, C), np.float32)), labels, array(N, V),
                       array(N, V))  # fmt: skip
    weight, shift, bounds = array(F, C), array(F), np.concatenate([[0], np.cumsum(lengths)])
    for precision in PRECISIONS:
        for name, run, products in (
            ("linear", lambda: linear.forward_cuda(x, weight, shift), 1),
            ("linear_gelu", lambda: linear_gelu.forward_cuda(x, weight, shift), 1),
            ("linear backward", lambda: linear.backward_cuda(wide, (x, weight)), 2),
        ):
            yield Kernel(
                f"{name} {precision}", _at(precision, run), precision, products * 2 * N * C * F
            )
    q, k = array(N, C), array(N, C)
    fixed = {"bounds": bounds, "n_heads": H}
    _, cache = attention.forward_cuda(q, k, x, **fixed)
    # Scores and context are two products; backward makes the scores again, twice, and four more.
    forward, backward = (lambda: attention.forward_cuda(q, k, x, **fixed),
                         lambda: attention.backward_cuda(z, cache))  # fmt: skip
    yield Kernel("attention", forward, "highest", 2 * 2 * squares * C)
    yield Kernel("attention backward", backward, "highest", 5 * 2 * squares * C)
    relate = {"target_q": x, "target_k": z, "bounds": bounds, "n_heads": H,
              "weights": np.full(len(lengths), 1 / (H * N), np.float32)}  # fmt: skip
    _, apart = relation.forward_cuda(q, k, **relate)
    # The scores of both sides and the gradients of one: four products; backward only scales these.
    yield Kernel("relation", lambda: relation.forward_cuda(q, k, **relate), "highest",
                 4 * 2 * squares * C)  # fmt: skip
    yield Kernel("relation backward", lambda: tuple(relation.backward_cuda(1.0, apart)), "bytes",
                 4 * row)  # fmt: skip
    bias = array(V)
    losses = {"labels": labels, "alpha_mlm": 1.0}
    yield Kernel("vocabulary", lambda: vocabulary.forward_cuda(x, table, bias, **losses),
                 "highest", 3 * 2 * N * C * V)  # fmt: skip


def _losses(x, z, shares, labels, logits, believed):
    """x, z, shares (N,C), labels (N,), logits and the teacher's (N,V)  ->  Kernels.

    Forward reads, backward reads again and writes; labels that are words are too few to count.
    """
    for op, mine, fixed, read in (
        (mse, x, {"target": z}, 2),
        (mae, x, {"target": z}, 2),
        (cosine, x, {"target": z}, 2),
        (kl_div, logits, {"teacher": believed}, 2),
        (cross_entropy, logits, {"labels": labels}, 1),
        (binary_cross_entropy, x, {"labels": shares}, 2),
    ):
        name, one = op.__name__.rpartition(".")[2], 4 * mine.shape[0] * mine.shape[1]  # bytes
        _, cache = op.forward_cuda(mine, **fixed)
        yield Kernel(name, partial(op.forward_cuda, mine, **fixed), "bytes", read * one)
        yield Kernel(f"{name} backward", partial(op.backward_cuda, np.float32(1), cache), "bytes",
                     (read + 1) * one)  # fmt: skip


def _at(precision, run):
    def inside():
        with matmul_precision(precision):
            run()

    return inside


def text(found):
    """The report in lines."""
    c = found["ceilings"]
    lines = [
        "ceilings of this device, measured: "
        f"{c['bytes'] / 1e9:.0f} GB/s, {c['highest'] / 1e12:.3g} TFLOP/s in float32, "
        f"{c['high'] / 1e12:.3g} in tf32, {c['medium'] / 1e12:.3g} in bfloat16",
        "",
        f"{'kernel':<24}{'ms':>18}{'achieved':>18}{'of ceiling':>12}",
    ]
    for k in found["kernels"]:
        time_ = f"{k['ms']:.3f} ±{k['ms_spread']:.3f}"
        memory = k["bound"] == "bytes"
        rate = f"{k['rate'] / 1e9:.0f} GB/s" if memory else f"{k['rate'] / 1e12:.3g} TFLOP/s"
        lines.append(f"  {k['name']:<22}{time_:>18}{rate:>18}{k['share']:>12.0%}")
    return "\n".join(lines)


def agrees(size):
    """Whether a product on the device is right at all, before anything is timed."""
    x = np.random.default_rng(1).standard_normal((5, 8), np.float32)
    y, _ = linear.forward_cuda(*map(to_device, (x, x, x[:, 0].copy())))
    return bool(np.allclose(to_host(y), x @ x.T + x[:, 0], atol=1e-4))
