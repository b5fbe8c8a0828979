"""The roofline: what each row of the benchmark could reach on this machine, and what it reaches.

A row needs arithmetic and traffic. Its *intensity* is its operations for each byte that has to move
(`workloads.operations`, `workloads.traffic`), and it can be no faster than

    min(peak of its instructions, intensity · bandwidth of memory).

A row whose intensity is left of the edge where the two meet is bound by memory. One that exceeds
its roof there has found bytes in a cache.
"""

from typing import NamedTuple

from minidistil.cli.bench.ceilings import CACHE, MEMORY, roof_name
from minidistil.cli.bench.contestants import OURS
from minidistil.io.counts import counted

NAME, ON = 36, 12  # characters of the first two columns


class Point(NamedTuple):
    """One of our rows."""

    name: str
    label: str
    work: str
    dtype: str
    instructions: str
    intensity: float  # operations a byte
    rate: float  # operations a second
    roof: float  # the same
    bound: str  # "memory" or "arithmetic"


def points(found):
    """The report of `timing.measure` with its ceilings  ->  the Points of our rows.

    Rows on another number of threads than the ceilings are left out.
    """
    arithmetic, memory = found["ceilings"]["arithmetic"], found["ceilings"]["bandwidth"][MEMORY]
    made = []
    for row in found["rows"]:
        mine = row["contestants"].get(OURS, {})
        if "ms" not in mine or row["threads"] != found["machine"]["threads"]:
            continue
        intensity = 1e9 * row["gflop"] / row["bytes"]
        peak, used = _peak(arithmetic, mine["instructions"], row["dtype"])
        roof = min(peak, intensity * memory)
        made.append(Point(
            row["name"], row["label"], _kind(row), row["dtype"], used, intensity,
            1e9 * mine["gflops"], roof, "arithmetic" if roof == peak else "memory",
        ))  # fmt: skip
    return made


def _peak(arithmetic, instructions, dtype):
    """Operations a second, and the instructions that reach them: of several, the fastest. A kernel
    of a narrow format may also compute in float32."""
    used = {
        name: max(arithmetic.get(roof_name(name, kind), 0) for kind in (dtype, "float32"))
        for name in instructions.split("/")
    }
    best = max(used, key=used.get)
    return used[best], best


def _kind(row):
    """What the row computes: "DistilBERT", "BERT", "linear", "attention" or "step"."""
    return row["section"].split(",")[0] if row["work"] == "inference" else row["work"]


def text(found):
    """The ceilings and a line for each row, in lines of at most 100 characters."""
    rates, arithmetic = found["ceilings"]["bandwidth"], found["ceilings"]["arithmetic"]
    lines = [
        f"roofline on {counted(found['machine']['threads'], 'thread')}, measured",
        f"  GB/s read: {rates[MEMORY] / 1e9:.1f} from memory, {rates[CACHE] / 1e9:.0f} from the "
        f"{CACHE}",
    ]
    names = sorted(arithmetic, key=arithmetic.get)
    for i in range(0, len(names), 3):
        peaks = ", ".join(f"{name} {arithmetic[name] / 1e9:.0f}" for name in names[i : i + 3])
        lines.append(f"  {'GFLOP/s at most: ' if i == 0 else '                 '}{peaks}")
    lines += [
        "  FLOP/byte: bytes are each weight once, in its format, and what goes in and comes out;",
        "  what moves again is not counted. Roof: the peak of the instructions, or memory times",
        "  FLOP/byte where that is less, which a row passes if a cache still has its bytes.",
        "",
        f"{'row':<{NAME}}{'on':<{ON}}{'FLOP/byte':>10}{'bound by':>12}{'roof':>8}{'GFLOP/s':>9}"
        f"{'of roof':>9}",
    ]
    for p in points(found):
        lines.append(
            f"  {p.name:<{NAME - 2}}{p.instructions:<{ON}}{p.intensity:>10.3g}{p.bound:>12}"
            f"{p.roof / 1e9:>8.0f}{p.rate / 1e9:>9.0f}{p.rate / p.roof:>9.0%}"
        )
    return "\n".join(lines)
