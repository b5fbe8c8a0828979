"""The pictures of the page of results, drawn with matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from minidistil.cli.reproduce.summary import Summary
from minidistil.io.files import writing

COLORS = {
    "teacher": "#7f8c8d", "distilled": "#c0392b", "two-stage": "#d63384", "same-start": "#2980b9",
    "random-start": "#8e44ad", "no-labels": "#16a085", "small": "#e67e22", "int8": "#27ae60",
}  # fmt: skip
OTHERS, OTHER_MARK = "#2c3e50", "X"
LOWEST, BELOW = 88, "v"  # per cent kept at the lower edge, and the mark of what is below it
MARKS = {"distilled": "o", "two-stage": "*", "same-start": "D", "random-start": "s", "small": "^",
         "int8": "P"}  # fmt: skip
MAKER = "minidistil reproduce"  # a picture has it as the software that made it


def draw_kept(path: Path, tasks: Sequence[Sequence[Summary]]) -> None:
    """The kept share against size and against speed: a point a student of a task."""
    figure, (size, speed) = _figure(2)
    kinds = {s.name: s.shown for found in tasks for s in found[1:]}
    for kind, shown in kinds.items():
        for s, teacher in ((s, found[0]) for found in tasks for s in found[1:]):
            if s.name == kind:
                _point(size, 100 * s.bytes / teacher.bytes, s)
                if s.times is not None:
                    _point(speed, s.times, s)
        look = {"color": COLORS.get(kind, OTHERS), "marker": MARKS.get(kind, OTHER_MARK)}
        speed.scatter([], [], label=shown, **look)
    speed.scatter([], [], color=OTHERS, marker=BELOW, label=f"below {LOWEST} %")
    size.set(xlabel="size on disk, % of the teacher's")
    size.set(xlim=(0, 105), ylabel="kept of the teacher's metric, %")
    speed.set(xlabel="times as fast as the teacher")
    speed.set_xlim(left=0.9)
    for axes in (size, speed):
        axes.set_ylim(bottom=LOWEST - 1)
        axes.axhline(100, color=COLORS["teacher"], linewidth=1)
        axes.axhline(97, color=COLORS["teacher"], linewidth=1, linestyle=":")
    speed.legend(frameon=False, fontsize=8, loc="lower center")
    _save(figure, path)


def draw_labels(path: Path, curves: Sequence[tuple]) -> None:
    """(row, {share: its models})  ->  a panel a row: the metric over the share of the labels, the
    range over the seeds as a band."""
    figure, panels = _figure(len(curves))
    for axes, (row, parts) in zip(panels, curves, strict=True):
        for name in dict.fromkeys(s.name for found in parts.values() for s in found):
            points = [(100 * share, s) for share, found in sorted(parts.items())
                      for s in found if s.name == name]  # fmt: skip
            shares, of = [share for share, _ in points], [s for _, s in points]
            color = COLORS.get(name, OTHERS)
            axes.plot(shares, [100 * s.median for s in of], marker="o", markersize=4, color=color,
                      label=of[0].shown)  # fmt: skip
            axes.fill_between(shares, [100 * s.low for s in of], [100 * s.high for s in of],
                              color=color, alpha=0.15, linewidth=0)  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks([100 * share for share in sorted(parts)])
        axes.set_xticklabels([f"{100 * share:g}" for share in sorted(parts)])
        axes.minorticks_off()
        axes.set(title=row.name, xlabel="labels known, %", ylabel=f"{row.metric}, times 100")
        axes.legend(frameon=False, fontsize=8, loc="lower right")
    _save(figure, path)


def is_results_picture(path: Path) -> bool:
    """Whether a file is a picture that this command drew."""
    return f"Software\0{MAKER}".encode() in path.read_bytes()


def _point(axes, x, s):
    """A student; one that keeps less than LOWEST is a mark at the lower edge."""
    kept, mark = 100 * s.kept, MARKS.get(s.name, OTHER_MARK)
    axes.scatter(
        x, max(LOWEST - 0.5, kept), marker=mark if kept >= LOWEST else BELOW, s=40, alpha=0.6,
        color=COLORS.get(s.name, OTHERS), linewidths=0,
    )  # fmt: skip


def _figure(panels):
    """A figure with panels side by side."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5 * panels, 4), layout="tight")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1, panels, squeeze=False)[0]
    for one in axes:
        one.grid(alpha=0.3)
    return figure, axes


def _save(figure, path):
    with writing(path) as file:
        figure.savefig(file, format="png", dpi=110, metadata={"Software": MAKER})
