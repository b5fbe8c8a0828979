"""The questions that every op has to answer, as functions: tests call them, and so do the tests
that break an op on purpose and expect them to fail.

Functions are looked up in the op's module at each call, so that a fault put there is seen.
"""

import importlib
from functools import cache, partial

import numpy as np
from model_cases import assert_same_formula, read, unpack
from op_cases import torch_op

from minidistil.ops import SUFFIX
from minidistil.ops.runtime.cpu import threads
from minidistil.ops.runtime.cuda import to_device, to_host
from minidistil.testing import check_backward, compare, rms

STORED = "ops"  # the name of the file in golden/
LOSSES = {
    "cross_entropy",
    "weighted_cross_entropy",
    "binary_cross_entropy",
    "kl_div",
    "cosine",
    "mse",
    "mae",
    "relation",
    "vocabulary",
}
KERNELS = [name for name in SUFFIX if name != "numpy"]
SUFFIXES = SUFFIX | {"cuda": "_cuda"}


def module_of(case):
    return importlib.import_module(f"minidistil.ops.{case.op}")


def cast(x, dtype):
    """Arrays of floats become `dtype`, everything else stays."""
    floats = isinstance(x, np.ndarray) and x.dtype.kind == "f"
    return x.astype(dtype) if floats else x


def arguments(case, dtype):
    """(args, fixed) with every array of floats in `dtype`."""
    fixed = {name: cast(x, dtype) for name, x in case.fixed.items()}
    return [cast(x, dtype) for x in case.args], fixed


def forward(case, backend, dtype):
    """y, cache."""
    args, fixed = arguments(case, dtype)
    if backend == "cuda":
        args, fixed = [sent(x) for x in args], {name: sent(x) for name, x in fixed.items()}
    return getattr(module_of(case), "forward" + SUFFIXES[backend])(*args, **fixed)


def sent(x):
    """Arrays of floats, and what a function says in them, lie on the device; all else does not."""
    if callable(x):
        return lambda *args: sent(np.asarray(x(*args), np.float32))
    return to_device(x) if _floats(x) else x


def fetched(x, shape):
    """The way back. A loss is an array of one number on the device."""
    return x if isinstance(x, np.ndarray | np.generic) else to_host(x).reshape(shape)


def run(case, backend="numpy", dtype=np.float64, dy=None):
    """{"y": output, "grad.0": gradient of argument 0, …}; dy: the cotangent, else a random one."""
    y, cache = forward(case, backend, dtype)
    shape = () if case.op in LOSSES else y.shape
    dy = np.asarray(cotangent(shape) if dy is None else dy, dtype)[()]
    dy = sent(dy) if backend == "cuda" else dy
    grads = getattr(module_of(case), "backward" + SUFFIXES[backend])(dy, cache)
    assert len(grads) == len(case.args)
    grads = [fetched(g, x.shape) for g, x in zip(grads, case.args, strict=True)]
    return {"y": np.asarray(fetched(y, shape))} | {f"grad.{i}": g for i, g in enumerate(grads)}


def cotangent(shape):
    """A random cotangent whose float32 and float64 forms are the same numbers."""
    rng = np.random.default_rng(len(shape) + sum(shape))
    return rng.normal(size=shape).astype(np.float32).astype(np.float64)


# ---------------------------------------------------------------- the questions


def transpose(case):
    """The specification's backward is the transpose of its forward's derivative."""
    op = module_of(case)
    args, fixed = arguments(case, np.float64)
    # partial: the fixed arguments of an op may be called like those of check_backward
    check_backward(partial(op.forward, **fixed), op.backward, args, np.random.default_rng(1))


def backends_agree(case, backends=KERNELS):
    """Kernels are as near to the float64 specification as the float32 specification is."""
    exact, reference = run(case), run(case, dtype=np.float32)
    for backend in backends:
        assert_near(f"{case} on {backend}", run(case, backend, np.float32), reference, exact)


def parity(case, theirs, exact):
    """In float64 PyTorch says the same, and in float32 every backend is as near to that as
    PyTorch's float32 is.

    theirs, exact: `torch_numbers` in float32 and float64. Measured from our own float64, a formula
    that is wrong everywhere would look like a bad PyTorch.
    """
    dy = exact["dy"]
    mine = run(case, dy=dy)
    largest = max(rms(x) for name, x in exact.items() if name.startswith("grad."))
    for name, x in mine.items():
        scale = rms(exact[name]) if name == "y" else largest
        assert_same_formula(f"{case}: {name}", x, exact[name], scale)
    for backend in SUFFIX:
        mine = run(case, backend, np.float32, dy)
        assert_near(f"{case} on {backend}", mine, theirs, exact)


def assert_near(what, mine, reference, exact):
    """Every number of `mine` in float32, as near to `exact` as `reference` is."""
    largest = max(rms(x) for name, x in exact.items() if name.startswith("grad."))
    for name, x in mine.items():
        assert x.dtype == np.float32, f"{what}: {name} is {x.dtype}"
        # A few numbers have no steady rms error: a reference that is right by luck allows nothing.
        scale = (rms(exact[name]) if name == "y" else largest) * (5 if x.size < 32 else 1)
        compare(f"{what}: {name}", x, reference[name], exact[name], scale)


def torch_numbers(case, dtype):
    """What PyTorch says in `dtype`: {"dy": the cotangent, "y", "grad.0", …}."""
    import torch

    def tensor(x):
        return torch.tensor(x) if isinstance(x, np.ndarray) else x

    args, fixed = arguments(case, dtype)
    args = [torch.tensor(x, requires_grad=True) for x in args]
    y = torch_op(case.op)(*args, **{name: tensor(x) for name, x in fixed.items()})
    dy = cotangent(tuple(y.shape)).astype(dtype)
    y.backward(torch.tensor(dy))
    grads = {f"grad.{i}": x.grad.numpy() for i, x in enumerate(args)}
    return {"dy": dy, "y": y.detach().numpy(), **grads}


def nan_spreads(case, backends=KERNELS):
    """A NaN in any argument reaches the same results on every backend as in the specification."""
    args, fixed = arguments(case, np.float64)
    places = [("args", i) for i in range(len(args))]
    places += [("fixed", name) for name, x in fixed.items() if _floats(x)]
    for kind, key in places:
        broken = {"args": list(args), "fixed": dict(fixed)}
        x = broken[kind][key] = broken[kind][key].copy()
        x[(0,) * x.ndim] = np.nan  # row 0 is selected in every case
        bad = case._replace(args=tuple(broken["args"]), fixed=broken["fixed"])
        exact = run(bad)
        used = case.op != "embedding" or 0 in case.fixed["ids"]
        assert np.isnan(exact["y"]).any() or not used, f"{case}: NaN in {key} is lost"
        for backend in backends:
            mine = run(bad, backend, np.float32)
            for name, x in exact.items():
                np.testing.assert_array_equal(np.isnan(mine[name]), np.isnan(x), f"{case}: {name}")


def _floats(x):
    return isinstance(x, np.ndarray) and x.dtype.kind == "f"


def thread_free(case):
    """One thread and two give the same bits."""
    with threads(1):
        one = run(case, "cpu", np.float32)
    with threads(2):
        two = run(case, "cpu", np.float32)
    for name, x in one.items():
        assert x.tobytes() == two[name].tobytes(), f"{case}: {name} depends on the threads"


def leaves_arguments(case):
    """Neither direction writes into an array that it was given."""
    for backend in SUFFIX:
        args, fixed = arguments(case, np.float32)
        op, suffix = module_of(case), SUFFIX[backend]
        y, cache = getattr(op, "forward" + suffix)(*args, **fixed)
        dy = np.asarray(cotangent(np.shape(y)), np.float32)
        arrays = [x for x in (*args, *fixed.values(), dy) if isinstance(x, np.ndarray)]
        before, again = [x.copy() for x in arrays], arguments(case, np.float32)[0]
        getattr(op, "backward" + suffix)(dy[()], cache)
        for x, old in zip([*arrays, *args], [*before, *again], strict=True):
            np.testing.assert_array_equal(x, old, f"{case} on {backend}")


# ---------------------------------------------------------------- stored numbers


def arrays_of(case):
    """{name: array} in float32, whole numbers too: what a machine without PyTorch starts from."""
    args = {f"arg.{i}": x for i, x in enumerate(case.args)}
    named = args | {name: x for name, x in case.fixed.items() if isinstance(x, np.ndarray)}
    return {name: x.astype(np.float32) for name, x in named.items()}


@cache
def _stored_numbers():
    kinds = read(STORED)
    return unpack(kinds["in"])[0], *unpack(kinds["out"])


def stored(case):
    """The case on its stored inputs, and PyTorch's numbers for them in float32 and float64."""
    start = f"{case}/"
    inputs, out, exact = (
        {name.removeprefix(start): x for name, x in numbers.items() if name.startswith(start)}
        for numbers in _stored_numbers()
    )
    args = tuple(inputs[f"arg.{i}"].astype(np.float64) for i in range(len(case.args)))
    fixed = {name: x.astype(case.fixed[name].dtype) for name, x in inputs.items()
             if name in case.fixed}  # fmt: skip
    return case._replace(args=args, fixed=case.fixed | fixed), out, exact
