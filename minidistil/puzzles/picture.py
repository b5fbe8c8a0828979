"""A picture of a recorded run: which thread reads which cell, and which writes which.

Barriers divide a run into phases, drawn from left to right and from top to bottom (`phase.py`).
"""

from collections import defaultdict
from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from minidistil.puzzles.phase import FAINT, GREY, WIDTH, Phase, pair, text, users
from minidistil.puzzles.recorder import Access, Record

THREADS, PHASES = 12, 5  # the most that are drawn: threads of several blocks, phases


class Picture:
    """An SVG drawing, which a notebook shows when it is the value of a cell."""

    def __init__(self, svg: str):
        self.svg = svg

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self):
        return "<Picture: display it in a notebook, or write its .svg to a file>"


def draw(record: Record, marked: Sequence[Access] = ()) -> Picture:
    """The picture of a run. marked: the accesses of a mistake."""
    accesses = record.accesses
    blocks = sorted({a.thread.block for a in accesses})
    note = ""
    if len(blocks) * np.prod(record.block) > THREADS:
        shown = marked[0].thread.block if marked else blocks[0]
        index = tuple(map(int, shown[: len(record.grid)]))
        which = index[0] if len(index) == 1 else index
        note = f"block {which} of {len(blocks)} · " if len(blocks) > 1 else ""
        blocks = [shown]
    phases = defaultdict(list)
    for a in accesses:
        if a.thread.block in blocks:
            phases[a.barriers].append(a)
    kept = _kept(sorted(phases), {a.barriers for a in marked})
    where = {(*pair(a), a.barriers) for a in marked}
    example = blocks[0], int(np.prod(record.block)) // 3
    if any(len(who) > 1 for phase in phases.values() for who in users(phase).values()):
        name = np.unravel_index(example[1], record.block[::-1])[::-1]
        name = name[0] if len(name) == 1 else tuple(map(int, name))
        note += f"outlined: what thread {name} uses"
    page = _Page(note.removesuffix(" · "))
    for before, phase in pairwise((None, *kept)):
        hidden = 0 if before is None else len([p for p in phases if before < p < phase])
        page.add(Phase(record, blocks, (where, example), phases[phase]), hidden)
    return Picture(page.svg())


def _kept(phases, marked):
    """The phases that are drawn: all, or the first ones, the marked ones and the last."""
    if len(phases) <= PHASES:
        return phases
    chosen = {*phases[: PHASES - 1], phases[-1], *(p for p in phases if p in marked)}
    return sorted(chosen)


class _Page:
    """Phases side by side where they fit, with a dashed line for each barrier."""

    def __init__(self, note):
        self.parts, self.x, self.y, self.height = [], 0, 22 if note else 8, 0
        if note:
            self.parts.append(text(WIDTH - 14, 20, note, 11, GREY, anchor="end"))

    def add(self, phase, hidden):
        """Place a phase. hidden: how many before it are left out."""
        words = "cuda.syncthreads()" + (f" … {hidden} more phases …" if hidden else "")
        if self.x and self.x + phase.width > WIDTH:
            self.x, self.y = 0, self.y + self.height + 14
            self._barrier(words, (WIDTH / 2, self.y), f"M14 {self.y}H{WIDTH - 14}", "")
            self.y, self.height = self.y + 14, 0
        elif self.x:
            height = max(self.height, phase.height, 130)
            middle = self.x + 2, self.y + height / 2
            turn = f' transform="rotate(-90 {middle[0]} {middle[1]})"'
            self._barrier(words, middle, f"M{self.x + 2} {self.y}V{self.y + height:.0f}", turn)
        shift = f"translate({self.x + 12 if self.x else 0} {self.y})"
        self.parts.append(f'<g transform="{shift}">{"".join(phase.lines + phase.parts)}</g>')
        self.x += phase.width + (12 if self.x else 0)
        self.height = max(self.height, phase.height)

    def _barrier(self, words, middle, line, turn):
        x, y, width = *middle, 6.7 * len(words) + 14
        self.parts.append(
            f'<path d="{line}" stroke="{FAINT}" stroke-dasharray="6 4"/><g{turn}>'
            f'<rect x="{x - width / 2:.0f}" y="{y - 9:.0f}" height="18" rx="4" '
            f'width="{width:.0f}" fill="#fff"/>'
            + text(x, y + 4, words, 11, GREY, code=True) + "</g>"
        )  # fmt: skip

    def svg(self):
        """The drawing."""
        height = self.y + self.height + 12
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height:.0f}" '
            f'viewBox="0 0 {WIDTH} {height:.0f}" text-anchor="middle" '
            'font-family="Helvetica, Arial, sans-serif">'
            f'<rect width="{WIDTH}" height="{height:.0f}" rx="10" fill="#fff"/>'
            f"{''.join(self.parts)}</svg>"
        )
