"""CUDA kernels answer the questions of `op_checks.py`, in the simulator or on a device.

    NUMBA_ENABLE_CUDASIM=1 pytest tests -m cuda

The same cases as for the other backends. In the simulator attention's tiles are small, so that
short sequences have several of them.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType

import numpy as np
import op_checks
import pytest
from op_cases import Case, Source, all_cases, cases_of, sequences

from minidistil.ops import OPS, vocabulary
from minidistil.ops.kernels import flash_attention_cuda, matmul_cuda, matmul_tensor_cores
from minidistil.ops.runtime import matmul_settings
from minidistil.ops.runtime.cuda import SIMULATED, device_zeros, to_device, to_host
from minidistil.testing import rms

pytestmark = pytest.mark.cuda
CASES = [case for case in all_cases() if hasattr(op_checks.module_of(case), "forward_cuda")]
each = pytest.mark.parametrize("case", CASES, ids=str)
FLOOR = 2e-7  # of the size of a result: float32's rounding
ROUNDING = {"highest": FLOOR, "high": 2**-11, "medium": 2**-8}  # of an operand, at most


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    if SIMULATED:
        monkeypatch.setattr(flash_attention_cuda, "FORWARD_ROWS", 8)
        monkeypatch.setattr(flash_attention_cuda, "BACKWARD_ROWS", 8)
        monkeypatch.setattr(vocabulary, "ROWS", 16)


def affordable(case):
    """False for what takes the simulator too long."""
    return not SIMULATED or len(case.args[0]) < 100


@each
def test_they_agree_with_the_specification(case):
    if not affordable(case):
        pytest.skip("a device's size")
    op_checks.backends_agree(case, ["cuda"])


@pytest.mark.parametrize("op", sorted({case.op for case in CASES}))
def test_nan_is_not_swallowed(op):
    op_checks.nan_spreads(cases_of(op)[1], ["cuda"])


@pytest.mark.parametrize("op", sorted({case.op for case in CASES}))
def test_twice_gives_the_same_bits(op):
    case = cases_of(op)[-1] if affordable(cases_of(op)[-1]) else cases_of(op)[0]
    one, two = (op_checks.run(case, "cuda", np.float32) for _ in range(2))
    for name, x in one.items():
        assert x.tobytes() == two[name].tobytes(), f"{case}: {name}"


# ------------------------------------------------------- tiles: edges, orders, parts, epilogues


def product(M, N, K, transpose_a=False, transpose_b=False, seed=0, **options):
    """The product of random (M,K) and (K,N), by the kernels and in float64."""
    s = Source(seed)
    a, b = s.normal(M, K).astype(np.float32), s.normal(K, N).astype(np.float32)
    given = [np.ascontiguousarray(x.T) if turned else x
             for x, turned in ((a, transpose_a), (b, transpose_b))]  # fmt: skip
    c = matmul_cuda.matmul(
        *map(to_device, given), transpose_a=transpose_a, transpose_b=transpose_b, **options
    )
    return to_host(c), a.astype(np.float64) @ b.astype(np.float64)


def assert_near(mine, exact, K, precision="highest"):
    assert rms(mine - exact) < 2 * ROUNDING[precision] * np.sqrt(K) + FLOOR * rms(exact)


ORDERS = ((False, False), (False, True), (True, False), (True, True))


@pytest.mark.parametrize("transpose_a, transpose_b", ORDERS)
@pytest.mark.parametrize("M, N, K", [(1, 1, 1), (3, 2, 9), (65, 68, 12), (8, 67, 17)])
def test_every_order_and_edge(M, N, K, transpose_a, transpose_b):
    assert_near(*product(M, N, K, transpose_a, transpose_b), K)


@pytest.mark.parametrize("precision", ["high", "medium"])
@pytest.mark.parametrize("transpose_a, transpose_b", ORDERS)
@pytest.mark.parametrize("M, N, K", [(3, 5, 7), (20, 68, 40)])
def test_tensor_cores(M, N, K, transpose_a, transpose_b, precision):
    with matmul_settings.matmul_precision(precision):
        mine, exact = product(M, N, K, transpose_a, transpose_b)
    assert_near(mine, exact, K, precision)
    if K > 7:  # and they do round
        assert rms(mine - exact) > ROUNDING[precision] / 8


def test_large_tiles(monkeypatch):
    monkeypatch.setattr(matmul_cuda, "SMALL", matmul_cuda.LARGE)
    assert_near(*product(5, 130, 11, transpose_b=True), 11)


@pytest.mark.parametrize("precision", ["highest", "high"])
def test_parts_of_k(monkeypatch, precision):
    monkeypatch.setattr(matmul_cuda, "PART", 16)
    monkeypatch.setattr(matmul_cuda, "BLOCKS", 3)
    assert matmul_cuda.plan(5, 6, 50, precision)[1] == 3
    with matmul_settings.matmul_precision(precision):
        assert_near(*product(5, 6, 50, transpose_a=True), 50, precision)


@pytest.mark.parametrize("parts", [1, 2])
@pytest.mark.parametrize("precision", ["highest", "medium"])
def test_epilogues(monkeypatch, precision, parts):
    """A bias, a sum that goes on and GELU, in one, in every kernel that ends a product."""
    from minidistil.ops import gelu

    monkeypatch.setattr(matmul_cuda, "PART", 16)
    monkeypatch.setattr(matmul_cuda, "BLOCKS", parts)
    s, M, N, K = Source(3), 7, 12, 32
    bias, old = s.normal(N), s.normal(M, N)
    out, into = to_device(old.astype(np.float32)), device_zeros((M, N))
    with matmul_settings.matmul_precision(precision):
        mine, exact = product(M, N, K, bias=to_device(bias.astype(np.float32)), out=out, add=True,
                              gelu="tanh", into=into)  # fmt: skip
    exact = exact + bias + old
    assert_near(mine, exact, K, precision)
    assert_near(to_host(into), gelu.forward(exact, approximate="tanh")[0], K, precision)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"\(M,K\) times \(K,N\), not \(2, 3\) times \(4, 5\)"):
        matmul_cuda.matmul(device_zeros((2, 3)), device_zeros((4, 5)))


def test_attention_in_tiles_of_full_size(monkeypatch):
    monkeypatch.undo()
    s, lengths, H, D = Source(5), (35, 2), 1, 36
    args = tuple(s.normal(sum(lengths), H * D) for _ in range(3))
    case = Case("attention", "full", args, {"bounds": sequences(*lengths), "n_heads": H})
    op_checks.backends_agree(case, ["cuda"])


def test_attention_says_what_is_too_wide():
    x = device_zeros((2, 130))
    from minidistil.ops import attention

    with pytest.raises(ValueError, match="at most 64 channels, not 65"):
        attention.forward_cuda(x, x, x, bounds=np.array([0, 2]), n_heads=2)


# ------------------------------------------------------- precision


def test_a_precision_ends_with_its_block():
    with pytest.raises(ZeroDivisionError), matmul_settings.matmul_precision("high"):
        assert matmul_settings.current() == ("high", "own")
        _ = 1 / 0
    assert matmul_settings.current() == ("highest", "own")


@pytest.mark.parametrize("given, says", [
    ({"name": "tf32"}, "precision must be one of highest, high, medium, not 'tf32'"),
    ({"gemm": "blas"}, "gemm must be one of own, cublas, not 'blas'"),
    ({"name": "high", "gemm": "cublas"}, "leave out the precision 'high'"),
    ({"gemm": "cublas"}, "needs cupy"),
])  # fmt: skip
def test_what_does_not_exist_is_refused(monkeypatch, given, says):
    monkeypatch.setattr(matmul_settings, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=says), matmul_settings.matmul_precision(**given):
        pass


# ------------------------------------------------------- the optimiser's arithmetic, the door


def test_adamw():
    from minidistil.ops import adamw

    s, shapes = Source(7), ((5, 70), (3,), (1, 129))
    many = [[s.normal(*a), s.normal(*a), s.normal(*a) ** 2, s.normal(*a)] for a in shapes]
    options = {"lr": 0.1, "beta1": 0.9, "beta2": 0.99, "eps": 1e-6, "weight_decay": 0.1, "step": 3}
    mine = [[to_device(x.astype(np.float32)) for x in arrays] for arrays in many]
    decays = (True, False, True)
    new = adamw.update_all_cuda(((*one, d) for one, d in zip(mine, decays, strict=True)), **options)
    exact = adamw.update_all(((*one, d) for one, d in zip(many, decays, strict=True)), **options)
    for a, b in zip(new, exact, strict=True):
        np.testing.assert_allclose(to_host(a), b, rtol=1e-5, atol=1e-6)
    for one, exact in zip(mine, many, strict=True):
        for x, y in zip(one[1:3], exact[1:3], strict=True):
            np.testing.assert_allclose(to_host(x), y, rtol=1e-5, atol=1e-6)


def test_norm():
    from minidistil.ops import global_norm

    arrays = [Source(8).normal(3, 50), Source(9).normal(7)]
    mine = [to_device(x.astype(np.float32)) for x in arrays]
    assert global_norm.norm_cuda(mine) == pytest.approx(global_norm.norm(arrays), rel=1e-6)
    for half, whole in zip(global_norm.scaled_cuda(mine, 0.5), arrays, strict=True):
        np.testing.assert_array_equal(to_host(half), whole.astype(np.float32) / 2)


def test_every_op_has_a_cuda_voice():
    for op in OPS:
        module = import_module(f"minidistil.ops.{op}")
        assert hasattr(module, "forward_cuda") and hasattr(module, "backward_cuda")


def test_a_row_of_many_tokens_is_summed_in_pieces():
    s, ids = Source(4), np.array([2] * 70 + [0] * 65 + [2] * 64)
    case = Case("embedding", "pieces", (s.normal(4, 3),), {"ids": ids})
    op_checks.backends_agree(case, ["cuda"])


# ------------------------------------------------------- and what these tests are for


@pytest.mark.skipif(not SIMULATED, reason="a device may be lucky")
@pytest.mark.parametrize(
    "file, line, precision",
    [
        (matmul_cuda, "cuda.syncthreads()", "highest"),
        (matmul_tensor_cores, "wait_copies(1)", "high"),
    ],
)
def test_a_forgotten_barrier_is_seen(monkeypatch, file, line, precision):
    """The kernels without one line: what a thread reads is not there yet."""
    source = Path(file.__file__).read_text(encoding="utf-8")
    assert line in source
    planted = ModuleType("planted")
    exec(source.replace(line, "pass"), vars(planted))
    name = "product_kernel" if file is matmul_cuda else "tensor_kernel"
    monkeypatch.setattr(matmul_cuda, name, getattr(planted, name))
    wrong = (AssertionError, RuntimeWarning)  # what was there before may be any number
    with matmul_settings.matmul_precision(precision), pytest.raises(wrong):
        assert_near(*product(9, 9, 40, seed=11), 40, precision)
