"""The roofline as a picture: log-log, the roofs, and a labelled point for each of our rows.

The background is transparent, and every colour has the same contrast with white as with the dark
background of a web page.
"""

import math
import textwrap

import numpy as np

from minidistil.cli.bench.ceilings import CACHE, MEMORY
from minidistil.cli.bench.results_table import DRAWN, machine_line
from minidistil.cli.bench.roofline import points
from minidistil.io.files import writing

LINE, TEXT = "#7d7d7d", "#777777"
COLORS = {"float32": "#4477cc", "bfloat16": "#b8601c", "int8": "#2f8a4c"}
MARKERS = {"DistilBERT": "o", "BERT": "s", "linear": "^", "attention": "D", "step": "*"}
# Where a label may go, from its point, in pixels: near ones first
PLACES = [(x * r, y * r) for r in (1, 1.8, 2.8, 4, 5.5, 7.5, 10)
          for x, y in ((14, 0), (-14, 0), (10, 12), (-10, 12), (10, -12), (-10, -12), (0, 14),
                       (0, -14))]  # fmt: skip
ABOVE = 1.1  # times a slope, where its name stands
WIDTH = 110  # characters of a line of the title
FORMATS = {".png": "png", ".svg": "svg"}


def draw(path, found):
    """The picture of a report with ceilings, as .png or .svg. Raises ImportError without
    matplotlib."""
    made = {"Title": DRAWN["Software"], "Date": None} if path.suffix == ".svg" else DRAWN
    figure, kind = figure_of(found), FORMATS[path.suffix]
    with writing(path) as file:
        figure.savefig(file, format=kind, transparent=True, metadata=made)


def figure_of(found):
    """The report's ceilings and rows as a matplotlib Figure with one axes."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained", dpi=110)
    FigureCanvasAgg(figure)
    axes, shown = figure.add_subplot(), points(found)
    _frame(axes, shown)
    _roofs(axes, found["ceilings"])
    for p in shown:
        axes.plot(p.intensity, p.rate / 1e9, MARKERS[p.work], color=COLORS[p.dtype], markersize=7)
    _legend(axes, shown)
    m = found["machine"]
    title = textwrap.fill(f"{machine_line(m)}, {m['date']}", WIDTH)
    axes.set_title(title, fontsize=9, color=TEXT)
    figure.draw_without_rendering()
    figure.set_layout_engine("none")  # what is measured from here on stays where it is
    _labels(axes, shown)
    return figure


def _frame(axes, shown):
    """Logarithmic axes, with room for the names of the roofs on the right."""
    intensities = [p.intensity for p in shown] or [1]
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(intensities) / 2, max(intensities) * 8)
    axes.set_xlabel("operations for each byte that has to move", color=TEXT)
    axes.set_ylabel("GFLOP/s", color=TEXT)
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.tick_params(which="both", colors=TEXT)
    axes.grid(color=LINE, alpha=0.25)
    for spine in axes.spines.values():
        spine.set_color(LINE)


def _roofs(axes, ceilings):
    """The slopes of memory and of the cache; from there on, a horizontal line for each peak."""
    bandwidth = {name: rate / 1e9 for name, rate in ceilings["bandwidth"].items()}
    peaks = {name: rate / 1e9 for name, rate in ceilings["arithmetic"].items() if rate}
    left, right = axes.get_xlim()
    highest = max(peaks.values())
    for name, style in ((MEMORY, "-"), (CACHE, ":")):
        rate = bandwidth[name]
        slope = np.geomspace(left, max(left, highest / rate), 50)
        axes.plot(slope, rate * slope, style, color=LINE, linewidth=1.5)
        above = ABOVE * rate
        axes.text(
            1.1 * left, above * 1.1 * left, f"{name} {rate:.3g} GB/s", color=TEXT, fontsize=8,
            rotation=math.degrees(math.atan(above)), rotation_mode="anchor",
            transform_rotates_text=True,
        )  # fmt: skip
    for name, rate in peaks.items():
        color, style = COLORS[name.split()[-1]], "-" if name.startswith("AMX") else "--"
        line = np.geomspace(min(rate / bandwidth[CACHE], right / 2), right, 200)
        axes.plot(line, np.full_like(line, rate), style, color=color, linewidth=1.2)
        axes.annotate(
            f"{name} {rate:.0f}", (right, rate), xytext=(-3, 3), textcoords="offset points",
            ha="right", color=color, fontsize=8,
        )  # fmt: skip


def _legend(axes, shown):
    """Colours are number formats, markers kinds of rows."""
    from matplotlib.lines import Line2D

    dtypes = [x for x in COLORS if any(p.dtype == x for p in shown)]
    kinds = [x for x in MARKERS if any(p.work == x for p in shown)]
    marks = [Line2D([], [], color=COLORS[x], linewidth=4, label=x) for x in dtypes]
    marks += [Line2D([], [], color=TEXT, linestyle="", marker=MARKERS[x], label=x) for x in kinds]
    axes.legend(handles=marks, loc="upper left", fontsize=8, framealpha=0, labelcolor=TEXT)


def _labels(axes, shown):
    """A label for each point, where it covers no other label, no point and no line.

    The places nearest to a point are tried first; a thin line leads from it to its label.
    """
    renderer = axes.figure.canvas.get_renderer()
    inside, to_pixels = axes.get_window_extent(renderer), axes.transData.transform
    lines = [xy for line in axes.lines for xy in to_pixels(line.get_xydata())]
    taken = [_box(x, y, 3, 3) for x, y in lines]  # of points, too, which are lines of one point
    taken += [text.get_window_extent(renderer) for text in axes.texts]
    taken.append(axes.get_legend().get_window_extent(renderer))
    for p in shown:
        at = to_pixels((p.intensity, p.rate / 1e9))
        label = axes.annotate(
            p.label, at, at, xycoords="figure pixels", textcoords="figure pixels", ha="center",
            va="center", fontsize=7, color=COLORS[p.dtype],
            arrowprops={"arrowstyle": "-", "color": COLORS[p.dtype], "alpha": 0.5, "linewidth": 0.6,
                        "shrinkA": 0, "shrinkB": 3},
        )  # fmt: skip
        size = label.get_window_extent(renderer)
        boxes = [
            _box(at[0] + dx + np.sign(dx) * size.width / 2, at[1] + dy, size.width / 2,
                 size.height / 2)
            for dx, dy in PLACES
        ]  # fmt: skip
        boxes = [box for box in boxes if inside.count_contains(box.corners()) == 4]
        covered = [box.count_overlaps(taken) for box in boxes]
        box = boxes[int(np.argmin(covered))]  # the first of the best
        taken.append(box)
        label.set_position(((box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2))


def _box(x, y, half_width, half_height):
    from matplotlib.transforms import Bbox

    return Bbox([[x - half_width, y - half_height], [x + half_width, y + half_height]])
