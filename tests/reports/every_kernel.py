"""Kernels in one process: `python every_kernel.py FILE [OP ...]` writes a digest of each result.

The cases of the named ops, forward and backward, and larger ones that several threads share. With
no op named, those of all ops, products in every layout, the narrow formats, the optimiser. All of
it on one thread and on two, and where there is AMX with it and without.
"""

import hashlib
import itertools
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy as np
import op_checks
from numba.core.dispatcher import Dispatcher
from op_cases import Case, Source, all_cases, sequences

from minidistil.ops import adamw, attention_bf16, global_norm, linear_bf16, linear_int8
from minidistil.ops.kernels import amx_peak, peak_cpu, peak_narrow
from minidistil.ops.kernels.activation import FORMS
from minidistil.ops.kernels.amx_tile import BF16
from minidistil.ops.kernels.matmul import matmul
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.runtime import amx
from minidistil.ops.runtime.cpu import compilations, erf_of_array, threads

OPS = Path(peak_cpu.__file__).parent.parent


def larger_cases():
    """Cases of which several threads take a part each; lengths that no vector divides."""
    s = Source(5)
    q, k, v = s.normal(3, 150, 64)
    yield Case("attention", "large", (q, k, v), {"bounds": sequences(61, 89), "n_heads": 4})
    q, k, v = s.normal(3, 209, 32)
    yield Case("attention", "long", (q, k, v), {"bounds": sequences(200, 9), "n_heads": 2})
    logits, teacher = s.normal(2, 67, 1003, scale=3.0)
    yield Case("kl_div", "large", (logits,), {"teacher": teacher})
    yield Case("cross_entropy", "large", (logits,), {"labels": s.integers(1003, 67)})
    yield Case("softmax", "large", (logits,), {})
    yield Case("layernorm", "large", (logits, s.normal(1003), s.normal(1003)), {"eps": 1e-12})
    for form in FORMS:
        args = s.normal(97, 130), s.normal(83, 130), s.normal(83)
        yield Case("linear_gelu", f"large-{form}", args, {"approximate": form})


def products():
    """{name: result} of the matrix products and the narrow formats."""
    s, found = Source(6), {}
    for M, K, N in ((3, 5, 7), (2 * MR + 1, 270, 3 * NR + 5)):
        a, b, bias = (s.normal(*shape).astype(np.float32) for shape in ((M, K), (K, N), (N,)))
        for layout, x, y in (("c", a, b), ("f", np.asfortranarray(a), np.asfortranarray(b))):
            found[f"{M}x{K}x{N}-{layout}"] = matmul(x, y, bias=bias)
            for form in FORMS:
                found[f"{M}x{K}x{N}-{layout}-{form}"] = matmul(x, y, bias=bias, gelu=form)
        for name, op in (("int8", linear_int8), ("bfloat16", linear_bf16)):
            found[f"{M}x{K}x{N}-{name}"] = op.forward_cpu(a, b.T.copy(), bias)[0]
    qkv = s.normal(3, 50, 32).astype(np.float32)
    y, cache = attention_bf16.forward_cpu(*qkv, bounds=sequences(41, 9), n_heads=2)
    gradients = attention_bf16.backward_cpu(y, cache)
    return found | {f"attention-bfloat16-{i}": x for i, x in enumerate([y, *gradients])}


def optimiser():
    """{name: result} of an optimiser's step and the norm before it."""
    s = Source(7)
    g, p = s.normal(2, 33, 31).astype(np.float32)
    m, v = np.zeros((2, *p.shape), np.float32)
    rule = {"lr": 0.01, "beta1": 0.9, "beta2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "step": 1}
    (scaled,) = global_norm.scaled_cpu([g], 0.3)
    new = adamw.update_cpu(p, m, v, scaled, **rule)
    norm = np.float64(global_norm.norm_cpu([g, p]))
    both = {f"erf-{t}": erf_of_array(g.astype(t)) for t in ("float32", "float64")}
    return {"p": new, "m": m, "v": v, "norm": norm, "scaled": scaled, **both}


def burst():
    """The kernels that measure a processor's ceilings; the one of AMX has no result."""
    panels = np.ones((2, peak_cpu.STEPS + MR + 1, MR + NR), np.float32)
    sums = np.zeros(2, np.float32)
    peak_cpu._burst(1, panels)
    peak_cpu._read(2, panels.reshape(2, -1), sums)
    if amx.in_use():
        amx_peak._burst(BF16, 2, 1)
    narrow = np.ones((2, 2, peak_narrow.ROOM), np.uint8)
    peak_narrow._burst_bf16(1, narrow[0])
    peak_narrow._burst_int8(1, narrow[1])
    return {"burst": panels, "read": sums, "narrow bursts": narrow}


def results(ops):
    """{what, on how many threads and by which instructions: SHA-256 of its bytes}."""
    found = {}
    for count, without in itertools.product((1, 2), (True,) if amx.refusal() else (False, True)):
        with threads(count), amx.without_amx(without):
            by = f"{count} by {amx.instructions()}"
            numbers = [] if ops else [products(), optimiser(), burst()]
            for case in [*all_cases(), *larger_cases()]:
                if ops and case.op not in ops:
                    continue
                arrays = op_checks.run(case, "cpu", np.float32)
                numbers.append({f"{case}-{name}": x for name, x in arrays.items()})
        for arrays in numbers:
            for name, x in arrays.items():
                digest = hashlib.sha256(np.ascontiguousarray(x).tobytes()).hexdigest()
                found[f"{name} on {by}"] = digest
    return found


def never_called():
    """The kernels of the package that no result came from."""
    files = [path for path in OPS.rglob("*.py") if "runtime.cpu import" in path.read_text("utf-8")]
    names = [".".join(path.relative_to(OPS).with_suffix("").parts) for path in files]
    modules = [import_module(f"minidistil.ops.{name}") for name in names]
    kernels = {f"{x.__module__}.{x.__name__}": x for module in modules
               for x in vars(module).values()
               if isinstance(x, Dispatcher) and "inline" not in x.targetoptions}  # fmt: skip
    left = sorted(name for name, kernel in kernels.items() if not kernel.overloads)
    return [name for name in left if ".amx_" not in name or not amx.refusal()]


if __name__ == "__main__":
    path, *ops = sys.argv[1:]
    found = {"results": results(ops), "compiled": compilations.count, "left": never_called()}
    Path(path).write_text(json.dumps(found), encoding="utf-8")
