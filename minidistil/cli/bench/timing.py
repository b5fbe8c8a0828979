"""Interleaved timing of the benchmark's rows, A B C A B C …, so that other load on the machine
affects all contestants alike."""

import statistics
import time
from functools import cache, partial

import numpy as np

from minidistil.cli.bench import ceilings, machine
from minidistil.cli.bench.contestants import OURS, Contestants
from minidistil.cli.bench.workloads import chosen, operations, traffic
from minidistil.io.console import progress
from minidistil.ops import matmul_precision
from minidistil.testing import rms

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
TURN = 0.05  # seconds that a turn lasts at least: short calls are repeated and averaged
FEWEST = 3  # rounds, however little time there is
# How far an answer may be from ours in float32, relative to its size (rms).
TOLERANCE = {"float32": 1e-5, "bfloat16": 5e-2, "int8": 2e-1}


def measure(
    *, rows, peers, size, model, backend, precision, gemm, rounds, seconds, clock, roofline, threads
):  # fmt: skip
    """The report: the machine, and for each row the time of every contestant.

    rows: names, None for all. rounds: at most; seconds: after which a row's next round does not
    begin. clock: "wall", or "cpu" for processor time, which leaves the rows of several threads out.
    roofline: whether the machine's ceilings are measured too.
    Raises ValueError for rows or models that do not exist.
    """
    from minidistil.ops.kernels.peak_cpu import peak
    from minidistil.ops.runtime import cpu

    peak, found = cache(partial(peak, clock=CLOCKS[clock])), []
    with (
        cpu.threads(threads), matmul_precision(precision, gemm),
        Contestants(size, model, threads, backend) as contestants,
    ):  # fmt: skip
        bar = progress(chosen(rows, contestants.configs), "benchmark")
        for row in bar:
            bar.set_postfix_str(row.name)
            if clock == "cpu" and "threads" in row.groups:
                continue
            runs, entries = _agreed(row, contestants, peers)
            times = interleave(runs, rounds, seconds, CLOCKS[clock]) if OURS in runs else {}
            with_threads = cpu.cores() if "threads" in row.groups else threads
            flop, moved = (f(row, contestants.configs) for f in (operations, traffic))
            for name, values in times.items():
                entries[name] |= _figures(values, times[OURS], flop, peak(with_threads))
            found.append({
                "name": row.name, "section": row.section, "label": row.label,
                "work": row.work, "dtype": row.trained if row.work == "step" else row.dtype,
                "threads": with_threads, "sequences": len(row.lengths), "tokens": sum(row.lengths),
                "padded": len(row.lengths) * max(row.lengths), "gflop": flop / 1e9,
                "bytes": moved, "contestants": entries,
            })  # fmt: skip
        return {
            "machine": machine.describe(threads), "size": None if model else size,
            "model": model, "backend": backend, "clock": clock,
            "peak_gflops": peak(threads) / 1e9, "rows": found,
            "ceilings": ceilings.measure(threads, precision, CLOCKS[clock]) if roofline else None,
        }  # fmt: skip


def _agreed(row, contestants, peers):
    """{name: function} of those whose answers agree, and {name: entry} of all."""
    runs, entries = {}, {}
    want = None
    for name in contestants.names(row, peers):
        made = contestants.make(name, row)
        if isinstance(made, str):
            entries[name] = {"skipped": made}
            continue
        with contestants.watched(name) as told:
            answer = np.float64(made.answer())
            instructions = told()
        if want is None:  # minidistil's own, which comes first
            want = answer if row.dtype == "float32" else contestants.reference(row)
        difference = float(rms(answer - want) / rms(want))
        entries[name] = {"difference": difference, "instructions": instructions}
        if difference <= TOLERANCE[row.dtype]:
            runs[name] = made.timed
        else:
            entries[name]["error"] = (
                f"differs from float32 by {difference:.1e} of its size, "
                f"allowed are {TOLERANCE[row.dtype]:.0e}"
            )
    return runs, entries


def interleave(runs, rounds, seconds, clock=time.perf_counter):
    """{name: a function without arguments}  ->  {name: [seconds a call, one a round]}.

    Where calls are short, a contestant's turn begins with one call that is not timed, because the
    caches hold the other contestants' data. The round that measures how long calls are counts where
    all are long. After `seconds` in all no further round begins, unless there were fewer than
    three.
    """
    start = time.perf_counter()
    times = {name: [_timed(run, 1, clock)] for name, run in runs.items()}
    calls = {name: max(1, round(TURN / first)) for name, (first,) in times.items()}
    if max(calls.values()) > 1:
        times = {name: [] for name in runs}
    for done in range(len(times[next(iter(runs))]), rounds):
        if done >= FEWEST and time.perf_counter() - start > seconds:
            break
        for name, run in runs.items():
            if calls[name] > 1:
                run()
            times[name].append(_timed(run, calls[name], clock))
    return times


def _timed(run, calls, clock):
    """Seconds a call."""
    before = clock()
    for _ in range(calls):
        run()
    return (clock() - before) / calls


def _figures(values, ours, flop, peak):
    """The report's entry of a contestant: a ratio is taken within each round, in which the load of
    the machine was the same for both."""
    median = statistics.median(values)
    ratios = [theirs / mine for theirs, mine in zip(values, ours, strict=True)]
    return {
        "ms": 1e3 * median, "ms_spread": 1e3 * spread(values), "gflops": flop / median / 1e9,
        "of_peak": flop / median / peak, "ratio": statistics.median(ratios),
        "ratio_spread": spread(ratios), "rounds": len(values),
    }  # fmt: skip


def spread(values):
    """Half the distance between the quartiles: what ± stands for."""
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / 2


if __name__ == "__main__":
    machine.reply(measure)
