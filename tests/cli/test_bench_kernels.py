"""The table of CUDA kernels: what it is made of, in the simulator, at toy size."""

import pytest

from minidistil.cli import main
from minidistil.cli.bench import cuda_kernels
from minidistil.ops.kernels import flash_attention_cuda
from minidistil.ops.runtime.cuda import SIMULATED

FOUND = {
    "ceilings": {"bytes": 2e12, "highest": 5e13, "high": 4e14, "medium": 8e14},
    "kernels": [
        {"name": "add", "ms": 0.02, "ms_spread": 0.001, "bound": "bytes", "rate": 1.9e12,
         "share": 0.95},
        {"name": "linear high", "ms": 0.1, "ms_spread": 0.0, "bound": "high", "rate": 2e14,
         "share": 0.5},
    ],
}  # fmt: skip


def test_the_table_says_what_was_achieved_of_what():
    head, _, _, add, linear = cuda_kernels.text(FOUND).splitlines()
    assert "2000 GB/s" in head and "400 in tf32" in head
    assert add.split() == ["add", "0.020", "±0.001", "1900", "GB/s", "95%"]
    assert linear.split()[-3:] == ["200", "TFLOP/s", "50%"]


@pytest.mark.cuda
def test_every_kernel_of_the_table_runs(monkeypatch):
    if SIMULATED:
        monkeypatch.setitem(cuda_kernels.SIZES, "tiny", (11, 8, 2, 8, 1, 1))
        monkeypatch.setattr(flash_attention_cuda, "FORWARD_ROWS", 8)
        monkeypatch.setattr(flash_attention_cuda, "BACKWARD_ROWS", 8)
    assert cuda_kernels.agrees("tiny")
    found = cuda_kernels.measure("tiny", rounds=1, calls=1)
    assert all(x > 0 for x in found["ceilings"].values())
    names = [k["name"] for k in found["kernels"]]
    assert len(names) == len(set(names)) and {"attention backward", "linear medium"} <= set(names)
    both = ("relu", "tanh", "moments", "relation", "mae", "mse", "cosine", "kl_div",
            "cross_entropy", "binary_cross_entropy")  # fmt: skip
    assert {f"{op}{way}" for op in both for way in ("", " backward")} <= set(names)
    for k in found["kernels"]:
        assert k["share"] == pytest.approx(k["rate"] / found["ceilings"][k["bound"]])


def test_kernels_are_those_of_cuda(capsys):
    assert main(["bench", "--rows", "kernels"]) == 2
    assert "--rows kernels needs --backend cuda, not cpu" in capsys.readouterr().err
