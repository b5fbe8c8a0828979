"""The ceilings' kernels do what is counted. No speed is asserted here."""

import itertools

import numpy as np
import pytest
from test_amx_tile import LONG, assembly, count

from minidistil.ops.kernels import amx_peak, peak_cpu, peak_narrow
from minidistil.ops.kernels.amx_tile import BF16, FORMATS, INT8
from minidistil.ops.kernels.register_tile import MR, NR
from minidistil.ops.kernels.register_tile_narrow import INT8 as INT8_WORD
from minidistil.ops.runtime import amx


@pytest.mark.parametrize("kind", [BF16, INT8])
def test_only_products_are_in_the_loop(kind):
    """Four of them to different registers, so that none waits for the one before."""
    text = assembly(lambda b, args: amx_peak.emit_products(b, *args, kind), [LONG])
    assert count(FORMATS[kind].dot, text) == 4 and count("tilezero", text) == 8
    assert count("tileload", text) == count("tilestored", text) == 0


@pytest.mark.skipif(bool(amx.refusal()), reason=amx.refusal())
@pytest.mark.parametrize("kind", [BF16, INT8])
def test_operations_of_amx_are_counted_for_each_thread(kind, monkeypatch):
    monkeypatch.setattr(amx_peak, "BURSTS", 2)
    ticks = itertools.cycle([0.0, 1.0])  # a burst takes a second
    one, two = (amx_peak.peak(kind, threads, lambda: next(ticks)) for threads in (1, 2))
    per_product = {BF16: 16_384, INT8: 32_768}[kind]  # 1,024 and 2,048 a cycle, 16 cycles
    assert one == amx_peak.STEPS * 4 * per_product and two == 2 * one


@pytest.mark.parametrize("dtype", ["bfloat16", "int8"])
def test_operations_of_a_narrow_format_are_counted(dtype, monkeypatch):
    monkeypatch.setattr(peak_narrow, "BURSTS", 1)
    ticks = itertools.cycle([0.0, 1.0])
    found = peak_narrow.peak(dtype, 2, lambda: next(ticks))
    step = 2 * MR * NR * (2 if dtype == "bfloat16" else INT8_WORD.depth)
    assert found == 2 * peak_cpu.TILES * peak_cpu.STEPS * step


def test_a_processor_without_int8_has_no_peak(monkeypatch):
    monkeypatch.setitem(peak_narrow.CHANNELS, "int8", 0)
    assert peak_narrow.peak("int8", 1) == 0


@pytest.mark.parametrize("burst", [peak_narrow._burst_bf16, peak_narrow._burst_int8])
def test_a_tile_stays_in_its_room(burst):
    """Panels of zeros give a tile of zeros, and what follows it is only read."""
    room = np.zeros((3, peak_narrow.ROOM), np.uint8)
    room[2] = 255
    burst(2, room[:2])
    assert not room[:2].any() and (room[2] == 255).all()


def test_every_number_of_the_array_is_read():
    x, sums = np.arange(12, dtype=np.float32).reshape(2, 6), np.zeros(2, np.float32)
    peak_cpu._read(3, x, sums)
    assert sums.tolist() == [3 * 15, 3 * 51]


def test_bytes_are_counted_for_all_threads_together():
    ticks = itertools.cycle([0.0, 2.0])  # a run takes two seconds
    found = peak_cpu.bandwidth(1 << 12, 2, lambda: next(ticks), read=1 << 14)
    assert found == (1 << 14) / 2
