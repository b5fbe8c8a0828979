"""The benchmark's report as a table for a terminal, and as a picture."""

import textwrap

from minidistil.cli.bench.contestants import OURS
from minidistil.cli.bench.workloads import TITLES
from minidistil.io.counts import counted
from minidistil.io.files import writing

WIDTH = 100
BUSY = ("Processor time, not time on the clock: the machine was busy with other things.",)
NAME, NUMBER = 17, 11  # characters of the first column, and of a ratio
TICKS = (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64)  # of the picture
COLORS = {OURS: "#c0392b", "torch-eager": "#7f8c8d", "torch-sdpa": "#2c3e50",
          "onnxruntime": "#2980b9", "numpy": "#27ae60"}  # fmt: skip
DRAWN = {"Software": "minidistil bench"}  # the picture's metadata


def is_drawn(path):
    """Whether a file is a picture that this command drew."""
    with open(path, "rb") as file:
        begin = file.read(4096)
    return begin.startswith((b"\x89PNG", b"<?xml")) and DRAWN["Software"].encode() in begin


def text(found):
    """The report in lines of at most 100 characters."""
    lines = _header(found)
    sections = dict.fromkeys(row["section"] for row in found["rows"])
    for section in sections:
        lines += ["", *_section(section, [r for r in found["rows"] if r["section"] == section])]
    if found["memory"]:
        lines += ["", *_memory(found["memory"])]
    lines += [f"error: {row['name']}: {name} {entry['error']}; it was not timed"
              for row in found["rows"] for name, entry in row["contestants"].items()
              if "error" in entry]  # fmt: skip
    return "\n".join(lines)


def _header(found):
    m = found["machine"]
    what = found["model"] or f"random weights, size {found['size']}"
    versions = ", ".join(f"{name} {v}" for name, v in m["versions"].items() if v is not None)
    lines = [
        *textwrap.wrap(
            f"{machine_line(m)} of {m['cores']}, {m['date']}; {what}", WIDTH, break_on_hyphens=False
        ),
        *textwrap.wrap(versions, WIDTH),
        f"peak of this machine, measured: {found['peak_gflops']:.0f} GFLOP/s in float32",
        "",
        *BUSY * (found["clock"] == "cpu"),
        "Ratios: the peer's time over minidistil's, from the same round. Above 1, minidistil is",
        "faster. Medians; ± is half the distance between the quartiles. GFLOP/s count real tokens,",
        "the peak is that of float32 vectors; AMX and narrower formats may pass it. Peers pad,",
        "minidistil does not; numpy is minidistil with NumPy's matrix products.",
    ]
    if found["missing"]:
        peers = ", ".join(f"{peer} ({package})" for peer, package in found["missing"].items())
        lines += textwrap.wrap(f"Not installed: {peers}; pip install 'minidistil[bench]'", WIDTH)
    return lines


def machine_line(m):
    """The processor, what its matrix products run on, and the number of threads."""
    threads = counted(m["threads"], "thread")
    used = f"matrix products on {m['instructions']}"
    return f"{m['processor']} ({', '.join(m['features'])}), {used}, {threads}"


def _section(title, rows):
    """A heading and a line for each row; peers that none of them has are left out."""
    peers = [name for name in dict.fromkeys(n for row in rows for n in row["contestants"])
             if name != OURS and any(set(row["contestants"].get(name, ())) - {"skipped"}
                                     for row in rows)]  # fmt: skip
    head = f"{title:<{NAME + 4}}{'ms':>12}{'GFLOP/s':>9}{'peak':>6}"
    lines = [head + "".join(f"  {name:>{NUMBER}}" for name in peers)]
    for row in rows:
        mine = row["contestants"][OURS]
        lines.append(f"  {row['label']:<{NAME}}{_ours(mine)}" + "".join(
            f"  {_ratio(row['contestants'].get(name, {})):>{NUMBER}}" for name in peers
        ))  # fmt: skip
    used = f"  {'products on':<{NAME}}{_instructions(rows, OURS):>14}{'':>15}"
    used += "".join(f"  {_instructions(rows, name):>{NUMBER}}" for name in peers)
    return [*lines, used.rstrip()]


def _instructions(rows, name):
    """What a contestant's matrix products of these rows run on."""
    entries = [row["contestants"].get(name, {}) for row in rows]
    used = {x["instructions"] for x in entries if "ms" in x and x["instructions"]}
    return "/".join(sorted({part for names in used for part in names.split("/")})) or "unknown"


def _ours(entry):
    if "ms" not in entry:
        return "  " + entry.get("skipped", "differs")
    digits = 1 if entry["ms"] < 1000 else 0
    time = f"{entry['ms']:.{digits}f} ±{entry['ms_spread']:.{digits}f}"
    return f"{time:>14}{entry['gflops']:>9.0f}{entry['of_peak']:>6.0%}"


def _ratio(entry):
    if "ratio" in entry:
        return f"{entry['ratio']:.2f} ±{entry['ratio_spread']:.2f}"
    return "differs" if "error" in entry else "-"


def _memory(found):
    title = "memory of a distillation step beyond parameters, gradients and moments"
    lines, ours = [title], found[OURS]["needed"]
    for name, entry in found.items():
        ratio = ""
        if name != OURS and ours > 0:
            ratio = f"{entry['needed'] / ours:>7.2f} times minidistil's"
        lines.append(f"  {name:<{NAME}}{entry['needed'] / 1e6:>8.0f} MB{ratio}")
    return lines


# ------------------------------------------------------- the picture


def draw(path, found):
    """Ratios of every row, and tokens a second against batch and length, where measured.

    Raises ImportError without matplotlib.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [row for row in found["rows"] if "sizes" not in row["section"]]
    batch = {r["sequences"]: r for r in found["rows"] if _plain(r) and _length(r) == 128}
    length = {_length(r): r for r in found["rows"] if _plain(r) and r["sequences"] == 1}
    curves = [(label, series) for label, series in (
        ("sentences of 128 tokens at once", batch), ("tokens in one sentence", length)
    ) if len(series) > 2]  # fmt: skip
    figure = Figure(figsize=(11, 0.9 + max(2.8, 0.3 * len(rows))), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(max(1, len(curves)), 2 if curves else 1)
    _draw_ratios(figure.add_subplot(grid[:, 0]), rows)
    for i, (label, series) in enumerate(curves):
        _draw_curve(figure.add_subplot(grid[i, 1]), label, dict(sorted(series.items())))
    m = found["machine"]
    figure.suptitle(textwrap.fill(f"{machine_line(m)}, {m['date']}", WIDTH), fontsize=10)
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=90, metadata=DRAWN)


def _plain(row):
    """Whether all sentences are equally long and DistilBERT infers in float32."""
    title = TITLES["distilbert"]
    return row["padded"] == row["tokens"] and row["section"] in (
        f"{title}, float32", f"{title}, sizes"
    )  # fmt: skip


def _length(row):
    return row["tokens"] // row["sequences"]


def _draw_ratios(axes, rows):
    """A line for each row, a dot for each peer."""
    from matplotlib.ticker import FixedLocator

    seen = set()
    for y, row in enumerate(rows):
        for name, entry in row["contestants"].items():
            if name == OURS or "ratio" not in entry:
                continue
            axes.errorbar(
                entry["ratio"], -y, xerr=entry["ratio_spread"], fmt="o", markersize=5,
                color=COLORS.get(name, "black"), label=None if name in seen else name,
            )  # fmt: skip
            seen.add(name)
    axes.axvline(1, color=COLORS[OURS], linewidth=1)
    axes.set_yticks([-y for y in range(len(rows))], [row["name"] for row in rows], fontsize=8)
    axes.set_xlabel("times that minidistil is faster")
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(TICKS))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.grid(axis="x", alpha=0.3)
    if seen:
        axes.legend(fontsize=8)


def _draw_curve(axes, label, series):
    for name, color in COLORS.items():
        runs = ((x, row["tokens"], row["contestants"].get(name, {})) for x, row in series.items())
        points = [(x, 1e3 * tokens / run["ms"]) for x, tokens, run in runs if "ms" in run]
        if points:
            axes.plot(*zip(*points, strict=True), "o-", color=color, label=name, markersize=3)
    axes.set_xscale("log", base=2)
    axes.set_xticks(list(series), [str(x) for x in series])
    axes.set_ylim(bottom=0)
    axes.set_xlabel(label)
    axes.set_ylabel("tokens a second")
    axes.grid(alpha=0.3)
    axes.legend(fontsize=7)
