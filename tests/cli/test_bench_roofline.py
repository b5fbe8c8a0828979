"""`bench --roofline`: ceilings, rows under them, and what products run on. No time is asserted."""

from itertools import combinations

import numpy as np
import pytest

from minidistil.check.peer_instructions import from_log
from minidistil.cli import main
from minidistil.cli.bench import ceilings, machine, roofline, roofline_picture, timing, workloads
from minidistil.cli.bench.contestants import OURS, PEERS, Contestants, missing
from minidistil.cli.bench.results_table import is_drawn, text
from minidistil.ops.kernels import amx_peak, peak_cpu, peak_narrow
from minidistil.ops.runtime import amx
from minidistil.testing import rms

MACHINE = {"processor": "Some(R) Processor", "features": ["avx512f", "amx-bf16"], "threads": 1,
           "cores": 2, "instructions": "AMX", "date": "2026-11-29", "versions": {"numpy": "2"},
           "system": "Linux"}  # fmt: skip
CEILINGS = {
    "bandwidth": {"memory": 10e9, "second-level cache": 100e9},
    "arithmetic": {"AVX-512 float32": 200e9, "AVX-512 bfloat16": 120e9, "AMX float32": 600e9,
                   "AMX bfloat16": 3600e9, "AMX int8": 7200e9},
}  # fmt: skip


def report(names, rate=100, instructions="AMX"):
    """What `timing.measure` returns, with made-up speeds of those rows, None for all."""
    configs, rows = workloads.configs_of("base"), []
    for row in workloads.chosen(names, configs):
        mine = {"ms": 1.0, "ms_spread": 0.1, "gflops": rate, "of_peak": 0.5, "ratio": 1.0,
                "ratio_spread": 0.0, "instructions": instructions}  # fmt: skip
        rows.append({
            "name": row.name, "section": row.section, "label": row.label, "work": row.work,
            "dtype": row.trained if row.work == "step" else row.dtype, "tokens": sum(row.lengths),
            "threads": 2 if "threads" in row.groups else 1, "sequences": len(row.lengths),
            "padded": 0, "gflop": workloads.operations(row, configs) / 1e9,
            "bytes": workloads.traffic(row, configs), "contestants": {OURS: mine},
        })  # fmt: skip
    return {"machine": MACHINE, "size": "base", "model": None, "backend": "cpu", "clock": "wall",
            "peak_gflops": 200.0, "rows": rows, "ceilings": CEILINGS, "missing": {},
            "memory": None}  # fmt: skip


def row_called(name):
    return next(row for row in workloads.ROWS if row.name == name)


# ---------------------------------------------------------------- what is counted


def test_operations_and_bytes_of_a_linear_layer_and_of_attention():
    row = row_called("linear-128x768x768-bfloat16")
    assert workloads.operations(row, {}) == 2 * 128 * 768 * 768
    assert workloads.traffic(row, {}) == 2 * 768 * 768 + 4 * 128 * (768 + 768)
    row = row_called("attention-8x128-float32")
    assert workloads.operations(row, {}) == 2 * 2 * 8 * 128 * 128 * 768
    assert workloads.traffic(row, {}) == 4 * 4 * 1024 * 768


def test_bytes_of_a_model_are_those_of_its_layers():
    """42.5 million numbers in DistilBERT's layers; three rows of 768 numbers for each token."""
    configs = workloads.configs_of("base")
    weights = 6 * (4 * 768**2 + 2 * 768 * 3072)
    for name, size in (("distilbert-1x16", 4), ("distilbert-8x128-int8", 1)):
        row = row_called(name)
        want = size * weights + 12 * 768 * sum(row.lengths)
        assert workloads.traffic(row, configs) == want


def test_a_step_moves_each_weight_of_the_student_ten_times():
    """4 bytes forward, backward and in the gradient; 7 numbers of 4 bytes in AdamW."""
    configs = workloads.configs_of("base")
    plain, narrow, both = (workloads.traffic(row_called(name), configs) for name in (
        "step", "step-bfloat16", "step-bfloat16-training"))  # fmt: skip
    teacher, student = 109_514_298, 66_985_530
    assert plain == 4 * teacher + 40 * student
    assert narrow == plain - 2 * teacher and both == narrow - 4 * student


# ---------------------------------------------------------------- ceilings


@pytest.mark.parametrize("off", [False, True])
def test_every_kind_of_arithmetic_has_a_ceiling(monkeypatch, off):
    for module in (peak_cpu, peak_narrow, amx_peak):
        monkeypatch.setattr(module, "BURSTS", 1)
    monkeypatch.setattr(peak_cpu, "FAR", 1 << 20)
    monkeypatch.setattr(peak_cpu.bandwidth, "__defaults__", (timing.CLOCKS["wall"], 1 << 20))
    with amx.without_amx(off):
        found = ceilings.measure(1, "high", timing.CLOCKS["wall"])
        names, dtypes = {amx.instructions(), amx.vectors()}, ("float32", "bfloat16", "int8")
    wanted = {ceilings.roof_name(name, dtype) for name in names for dtype in dtypes}
    assert set(found["arithmetic"]) == wanted and min(found["arithmetic"].values()) >= 0
    assert min(found["bandwidth"].values()) > 0
    if "AMX" in names:
        assert found["arithmetic"]["AMX float32"] == found["arithmetic"]["AMX bfloat16"] / 3


def test_a_row_is_under_the_lower_of_two_roofs():
    names = ["distilbert-1x16", "distilbert-8x128", "distilbert-8x128-bfloat16"]
    few, many, narrow = roofline.points(report(names))
    assert (few.bound, many.bound) == ("memory", "arithmetic")
    assert few.roof == few.intensity * 10e9 < 600e9 == many.roof
    assert narrow.roof == 3600e9 and narrow.intensity > many.intensity
    assert few.rate == 100e9 and few.work == "DistilBERT"


def test_the_roof_is_that_of_the_instructions_used():
    names = ["linear-1024x768x768-float32", "linear-1024x768x768-bfloat16"]
    roofs = {used: [p.roof for p in roofline.points(report(names, instructions=used))]
             for used in ("AMX", "AVX-512", "AMX/AVX-512")}  # fmt: skip
    assert roofs["AMX"] == roofs["AMX/AVX-512"]
    assert roofs["AVX-512"] == [200e9, 200e9], "bfloat16 may be computed in float32"


def test_rows_on_other_numbers_of_threads_and_rows_without_a_time_are_left_out():
    found = report(["distilbert-1x16", "threads-8x128", "bert-1x16"])
    found["rows"][1]["contestants"][OURS] = {"skipped": "a reason"}
    assert [p.name for p in roofline.points(found)] == ["distilbert-1x16"]


def test_the_table_names_the_bound_and_fits_a_terminal():
    lines = roofline.text(report(None)).splitlines()
    assert max(map(len, lines)) <= 100 and "10.0 from memory" in lines[1]
    (line,) = (line for line in lines if "distilbert-1x16 " in line)
    assert line.split() == ["distilbert-1x16", "AMX", "8.02", "memory", "80", "100", "125%"]


# ---------------------------------------------------------------- the picture


def luminance(color):
    parts = [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


@pytest.mark.parametrize("background", ["#ffffff", "#0d1117"])
@pytest.mark.parametrize("color", [roofline_picture.TEXT, *roofline_picture.COLORS.values()])
def test_colours_can_be_read_on_a_light_and_a_dark_page(color, background):
    """4.33 would be the same contrast with both."""
    dark, light = sorted(luminance(x) + 0.05 for x in (color, background))
    assert light / dark > 3.8


def test_no_label_covers_another():
    pytest.importorskip("matplotlib")
    from matplotlib.text import Text

    found = report(None)
    for i, row in enumerate(found["rows"]):  # close together, as they are
        row["contestants"][OURS]["gflops"] = 100 + 7 * (i % 9)
    figure = roofline_picture.figure_of(found)
    renderer, labels = figure.canvas.get_renderer(), {p.label for p in roofline.points(found)}
    boxes = [Text.get_window_extent(text, renderer) for text in figure.axes[0].texts
             if text.get_text() in labels]  # fmt: skip
    assert len(boxes) == len(roofline.points(found)) > 40
    assert sum(a.overlaps(b) for a, b in combinations(boxes, 2)) <= 2


@pytest.mark.parametrize("kind", ["png", "svg"])
def test_the_command_draws_and_prints(tmp_path, capsys, monkeypatch, kind):
    pytest.importorskip("matplotlib")
    asked = {}

    def ask(module, threads, **options):
        asked.update(options)
        return report(["distilbert-1x16", "linear-16x768x768-int8"])

    monkeypatch.setattr(machine, "ask", ask)
    path = tmp_path / f"roof.{kind}"
    argv = ["bench", "--rows", "inference", "--peers", "none", "--roofline"]
    assert main([*argv, str(path)]) == 0 and asked["roofline"] and is_drawn(path)
    assert asked["peers"] == []
    out = capsys.readouterr().out
    assert "roofline on 1 thread, measured" in out and f"roofline: {path}" in out
    assert main([*argv, str(path)]) == 0, "its own picture is replaced"
    assert main(argv) == 0 and "roofline on 1 thread" in capsys.readouterr().out
    path.write_text("notes", encoding="utf-8")
    assert main([*argv, str(path)]) == 2 and path.read_text(encoding="utf-8") == "notes"
    assert main([*argv, str(tmp_path / "roof.gif")]) == 2
    assert "--roofline draws .png or .svg, not roof.gif" in capsys.readouterr().err


# ---------------------------------------------------------------- what products run on


ONEDNN = ("onednn_verbose,v1,primitive,exec,cpu,matmul,{},undef,src:bf16 wei:bf16 dst:bf16,,,"
          "128x768:768x768,0.56")  # fmt: skip
MKL = "MKL_VERBOSE SGEMM(T,N,768,128,768,0x7f,0x7f,768,0x5,768,0x7f,0x5,768) 4.99ms CNR:OFF"


@pytest.mark.parametrize(("lines", "want"), [
    ([ONEDNN.format("brg_matmul:avx10_1_512_amx")], "AMX"),
    ([ONEDNN.format("brg_matmul:avx512_core_bf16")], "AVX-512"),
    ([ONEDNN.format("jit:gemm:avx2")], "AVX2"),
    ([ONEDNN.format("ref:any"), MKL], "AVX-512"),
    ([ONEDNN.format("brg_matmul:avx10_1_512_amx").replace("exec", "create")], None),
    ([ONEDNN.format("brgemm").replace("matmul", "reorder"), "something else"], None),
    (["onednn_verbose,v1,info,cpu,isa:Intel AVX10.1 and Intel AMX"], None),
    ([], None),
])  # fmt: skip
def test_a_log_of_pytorch_names_instructions(lines, want):
    assert from_log(lines, "AVX-512") == want


@pytest.fixture(scope="module")
def measured():
    """A report of single ops, with every peer that is installed."""
    peers = [peer for peer in PEERS if peer not in missing(PEERS)]
    rows = ["linear-16x768x768-float32", "linear-16x768x768-bfloat16", "linear-16x768x768-int8",
            "attention-8x128-float32", "attention-8x128-bfloat16"]  # fmt: skip
    return machine.ask(
        "minidistil.cli.bench.timing", 1, size="tiny", backend="cpu", precision="highest",
        gemm="own", rows=rows, peers=peers, model=None, rounds=3, seconds=0.01, clock="wall",
        roofline=False,
    ) | {"missing": {}, "memory": None}  # fmt: skip


def test_single_ops_agree_and_name_their_instructions(measured):
    assert len(measured["rows"]) == 5
    for row in measured["rows"]:
        assert row["contestants"][OURS]["instructions"] in (amx.instructions(), amx.vectors())
        for name, entry in row["contestants"].items():
            assert "error" not in entry, (row["name"], name, entry)
            assert "skipped" in entry or entry["ms"] > 0
    by_name = {row["name"]: row["contestants"] for row in measured["rows"]}
    assert by_name["linear-16x768x768-int8"][OURS]["instructions"] == amx.instructions()
    assert by_name["attention-8x128-float32"]["numpy"]["skipped"]
    lines = [line for line in text(measured).splitlines() if line.startswith("  products on")]
    assert len(lines) == 5 and amx.instructions() in lines[2]


def test_pytorch_says_what_its_products_run_on(measured):
    for row in measured["rows"]:
        for name, entry in row["contestants"].items():
            if name.startswith("torch") and row["name"].startswith("linear-16x768x768-float32"):
                assert entry["instructions"], "MKL or oneDNN computes float32"


def test_a_step_in_bfloat16_rounds_the_products_of_both_models():
    """A step of float32 differs from it in the third digit, one of a bfloat16 teacher less so."""
    names = "step", "step-bfloat16", "step-bfloat16-training"
    with Contestants("tiny", None, 1, "cpu") as them:
        exact, teacher, both = (them.make(OURS, row_called(name)).answer() for name in names)
    assert rms(both - exact) < timing.TOLERANCE["bfloat16"] * rms(exact)
    assert rms(teacher - exact) > 0 and not np.array_equal(both, teacher)


@pytest.mark.parametrize("backend", ["cuda", "numpy"])
def test_the_roofline_is_that_of_our_kernels(capsys, backend):
    assert main(["bench", "--backend", backend, "--roofline"]) == 2
    assert f"--roofline needs --backend cpu, not {backend}" in capsys.readouterr().err
