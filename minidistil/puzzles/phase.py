"""The picture of one phase of a run: the arrays that are read, the threads, and what they write.

A cell has the colour of the thread that uses it; one that several threads use is grey and says how
many, and the cells that one thread uses are outlined, as an example. Cells of a mistake are
outlined in red; those outside their array are dashed.
"""

from collections import defaultdict
from collections.abc import Sequence
from html import escape

import numpy as np

from minidistil.puzzles.recorder import Access, Array, Thread

WIDTH, LEFT, GAP = 800, 86, 26  # pixels: of the picture, before the arrays, between two
ROOM = 30  # for lines between threads and cells
STRIP, SQUARE = 24, 16  # width of a cell: of a few rows, of a matrix
LINES = 56  # the most lines of one phase; beyond, colours alone tell
RAMP = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 190, 90), (232, 178, 20))
RED, INK, GREY, FAINT, PALE = "#d0021b", "#24292f", "#57606a", "#8b949e", "#c9ced6"
UNUSED, MANY = "#f6f8fa", "#d8dee4"  # cells that no thread uses, or several


class Phase:
    """The parts of the drawing of one phase, and its size."""

    def __init__(self, record, blocks, marked, accesses):
        self.record, self.blocks = record, blocks
        self.marked, self.example = marked
        self.parts, self.lines, self.y, self.width = [], [], 0, 0
        self.words = defaultdict(list)
        self.count = int(np.prod(record.block))
        self.wide = len(record.block) > 1
        reads = [a for a in accesses if not a.writes]
        writes = [a for a in accesses if a.writes]
        self.outlines = any(len(who) > 1 for who in users(accesses).values())
        self.joined = self._joined(accesses)
        room = [ROOM if any(pair(a) in self.joined for a in x) else 8 for x in (reads, writes)]
        top = self._lane("read", reads, under=False)
        threads = self._threads(accesses, gap=room[0])
        self.y += room[1]
        bottom = self._lane("written", writes, under=True)
        self._join(top, STRIP, threads)
        self._join(bottom, 0, threads)
        self.height = self.y
        self.parts += [
            f'<g font-size="{size}" fill="{fill}">{"".join(words)}</g>'
            for (size, fill), words in self.words.items()
        ]

    def _joined(self, accesses):
        """The threads and cells with a line between them: all if they are few, or the marked."""
        flat = all(a.array.ndim == 1 or a.array.shape[0] <= 2 for a in accesses)
        if self.wide or not flat:
            return set()
        pairs = {pair(a) for a in accesses}
        return pairs if len(pairs) <= LINES else {pair(a) for a in accesses if self._marked(a)}

    def _marked(self, access):
        return (*pair(access), access.barriers) in self.marked

    def _lane(self, label, accesses, under):
        """Draw the arrays of one direction, their names above or under them, away from the threads
        ->  {(array, cell): (x, y, accesses)}."""
        groups = defaultdict(lambda: defaultdict(list))
        arrays = {}
        for a in accesses:
            arrays[id(a.array)] = a.array
            groups[id(a.array)][a.cell].append(a)
        places, x, tallest = {}, LEFT, 0
        if arrays:
            self._label(14, self.y + (17 if under else 43), label, 12)
        for key, array in arrays.items():
            size, low, high = _extent(array, groups[key])
            label = 6.6 * len(f"{array.name} {_place(array)}")
            width = max((high[1] - low[1]) * size, label)
            if x > LEFT and x + width > WIDTH - 12:
                x, self.y, tallest = LEFT, self.y + tallest + 8, 0
            names = 26 if size == STRIP else 18
            origin = x - low[1] * size, self.y + (0 if under else names) - low[0] * size
            self._array(array, groups[key], origin, size, under)
            for cell, used in groups[key].items():
                row, column = _row(cell)
                places[key, cell] = (*_at(origin, size, row, column), used)
            self.width = max(self.width, x + width + 14)
            x += width + GAP
            tallest = max(tallest, names + (high[0] - low[0]) * size)
        self.y += tallest
        return places

    def _array(self, array, groups, origin, size, under):
        rows, columns = _shape(array)
        edge = 10 if size == STRIP else 1  # of the names from the cells
        y = origin[1] + rows * size + edge + 10 if under else origin[1] - edge - 4
        self.parts.append(
            f'<text x="{origin[0]:.0f}" y="{y:.0f}" font-size="11" fill="{INK}" '
            f'text-anchor="start">'
            f'<tspan font-family="monospace" font-weight="bold">{escape(array.name)}</tspan>'
            f'<tspan fill="{GREY}" dx="5">{_place(array)}</tspan></text>'
        )
        cells = {(r, c) for r in range(rows) for c in range(columns)} | {_row(c) for c in groups}
        used = {_row(c): (c, a) for c, a in groups.items()}
        under_words = len(self.parts)
        plain = {UNUSED: "", MANY: ""}  # cells of matrices that need no words, by colour
        for row, column in sorted(cells):
            x, y = _at(origin, size, row, column)
            cell, accesses = used.get((row, column), ((row, column)[2 - array.ndim :], ()))
            if size == SQUARE and array.holds(cell) and len({a.thread for a in accesses}) != 1:
                plain[MANY if accesses else UNUSED] += _square(x, y, size)
                if not self._edge(accesses):
                    continue
            self._cell(array, cell, accesses, (x, y, size))
            if size == STRIP and row == (rows - 1 if under else 0):
                y = y + size + 8 if under else y - 3
                self._say(x + size / 2, y, column, 7.5, FAINT)
        self.parts[under_words:under_words] = [
            f'<path d="{squares}" fill="{fill}" stroke="{PALE}" stroke-width=".7"/>'
            for fill, squares in plain.items()
            if squares
        ]

    def _cell(self, array, cell, accesses, place):
        x, y, size = place
        threads = {a.thread for a in accesses}
        fill, words, ink = UNUSED, "", FAINT
        if len(threads) == 1:
            fill = self._colour(next(iter(threads)))
            ink = _ink(fill)
            words = _short(accesses[-1].value) if size == STRIP else next(iter(threads)).number
        elif threads:
            fill, words, ink = MANY, f"{len(threads)}×", INK
        elif size == STRIP and array.shared is None and np.isfinite(array.before[cell]):
            words = _short(array.before[cell])
        edge = self._edge(accesses) or ("" if threads else f' stroke="{PALE}"')
        if not array.holds(cell):
            fill, ink, edge = "#fff", RED, f' stroke="{RED}" stroke-dasharray="3 2"'
            words = ", ".join(map(str, cell))
        if size == STRIP:
            shape = (
                f'rect x="{x + 0.5:g}" y="{y + 0.5:g}" '
                f'width="{size - 1}" height="{size - 1}" rx="2"'
            )
        else:
            shape = f'path d="{_square(x, y, size)}"'
        self.parts.append(f'<{shape} fill="{fill}"{edge}/>')
        if words != "":
            self._say(x + size / 2, y + size / 2 + 3, words, 8.5 if size == STRIP else 7, ink)

    def _edge(self, accesses):
        """The outline of a cell that is part of a mistake or of the example."""
        threads = {(a.thread.block, a.thread.number) for a in accesses}
        if any(self._marked(a) for a in accesses):
            return f' stroke="{RED}" stroke-width="2.6"'
        if len(threads) > 1 and self.example in threads:
            return f' stroke="{INK}" stroke-width="2"'
        return ""

    def _threads(self, accesses, gap):
        """Draw the threads  ->  {thread: (x, y) of its middle}."""
        self.y += gap
        active, middles = {a.thread for a in accesses}, {}
        size = 17 if self.wide else STRIP
        height = self.record.block[1] if self.wide else 1
        self._label(14, self.y + 15, "threads", 12)
        x = LEFT
        for block in self.blocks:
            if len(self.blocks) > 1:
                index = tuple(map(int, block[: len(self.record.grid)]))
                name = f"block {index[0] if len(index) == 1 else index}"
                extent = size * self.record.block[0]
                self.parts.append(
                    f'<rect x="{x - 4}" y="{self.y - 4}" width="{extent + 8}" height="{size + 8}" '
                    f'rx="8" fill="none" stroke="{PALE}"/>'
                )
                self._label(x + extent + 9, self.y + 15, name, 9)
            for number in range(self.count):
                column, row = number % self.record.block[0], number // self.record.block[0]
                middle = x + (column + 0.5) * size, self.y + (row + 0.5) * size
                who = next((t for t in active if t.block == block and t.number == number), None)
                fill = "#fff" if who is None else self._colour(who)
                ink = PALE if who is None else _ink(fill)
                edge = f' stroke="{PALE}"' if who is None else ""
                if (block, number) == self.example and who is not None and self.outlines:
                    edge = f' stroke="{INK}" stroke-width="2"'
                self.parts.append(
                    f'<circle cx="{middle[0]:g}" cy="{middle[1]:g}" r="{size / 2 - 1}" '
                    f'fill="{fill}"{edge}/>'
                )
                font = 10 if size == STRIP else 7.5
                self._say(middle[0], middle[1] + 3, number, font, ink)
                if who is not None:
                    middles[who] = middle
            self.width = max(self.width, x + size * self.record.block[0] + 14)
            x += size * self.record.block[0] + 68
        self.y += size * height
        return middles

    def _join(self, places, height, threads):
        """Draw the lines between threads and cells."""
        for (key, cell), (x, y, accesses) in places.items():
            for who in {a.thread for a in accesses}:
                tx, ty = threads[who]
                cx, cy = x + STRIP / 2, y + height
                ty += STRIP / 2 - 1 if cy > ty else 1 - STRIP / 2
                middle = (cy + ty) / 2
                if (who, key, cell) not in self.joined:
                    continue
                bad = any(self._marked(a) for a in accesses if a.thread == who)
                colour = RED if bad else self._colour(who)
                self.lines.append(
                    f'<path d="M{tx:.1f} {ty:.1f}C{tx:.1f} {middle:.1f} {cx:.1f} {middle:.1f} '
                    f'{cx:.1f} {cy:.1f}" fill="none" stroke="{colour}" '
                    f'stroke-width="{2.2 if bad else 1.3}" opacity="{1 if bad else 0.75}"/>'
                )

    def _label(self, x, y, words, size):
        self.parts.append(text(x, y, words, size, GREY, anchor="start"))

    def _say(self, x, y, words, size, fill):
        """Words around x; those of one kind become one group, which keeps pictures small."""
        self.words[size, fill].append(f'<text x="{x:g}" y="{y:g}">{escape(str(words))}</text>')

    def _colour(self, who):
        place = self.blocks.index(who.block) * self.count + who.number
        return _ramp(place, len(self.blocks) * self.count)


def text(
    x: float, y: float, words: object, size: float, fill: str, *, anchor: str = "", code=False
) -> str:
    """Words in a picture, around x unless anchor says otherwise."""
    more = f' text-anchor="{anchor}"' if anchor else ""
    more += ' font-family="monospace"' if code else ""
    place = f'x="{x:g}" y="{y:g}" font-size="{size}" fill="{fill}"{more}'
    return f"<text {place}>{escape(str(words))}</text>"


def pair(access: Access) -> tuple:
    """The thread and the cell of an access."""
    return access.thread, id(access.array), access.cell


def users(accesses: Sequence[Access]) -> dict[tuple, set[Thread]]:
    """{(array, cell): the threads that use it}."""
    found = defaultdict(set)
    for a in accesses:
        found[id(a.array), a.cell].add(a.thread)
    return found


def _row(cell):
    return (0, *cell) if len(cell) == 1 else cell


def _shape(array: Array):
    return (1, *array.shape) if array.ndim == 1 else array.shape


def _place(array):
    shared = "shared " if array.shared is not None else ""
    return shared + " × ".join(map(str, array.shape))


def _extent(array, groups):
    """Width of a cell, and the first and last row and column, with the cells outside."""
    rows, columns = _shape(array)
    used = [_row(cell) for cell in groups]
    low = tuple(min([0, *(c[i] for c in used)]) for i in (0, 1))
    high = tuple(max([n, *(c[i] + 1 for c in used)]) for i, n in enumerate((rows, columns)))
    return (STRIP if rows <= 2 else SQUARE), low, high


def _at(origin, size, row, column):
    return origin[0] + column * size, origin[1] + row * size


def _square(x, y, size):
    return f"M{x + 1:g} {y + 1:g}h{size - 2}v{size - 2}h{2 - size}z"


def _short(value):
    """A number in at most four characters."""
    if np.isfinite(value) and value != 0 and not 0.01 <= abs(value) < 999.5:
        return f"{value:.0e}".replace("e+0", "e").replace("e-0", "e-")
    text = f"{value:.3g}" if value == round(value, 0) else f"{value:.2g}"
    return text.replace("0.", ".") if abs(value) < 1 else text


def _ramp(place, count):
    at = (len(RAMP) - 1) * place / max(1, count - 1)
    i = min(int(at), len(RAMP) - 2)
    mixed = (a + (b - a) * (at - i) for a, b in zip(RAMP[i], RAMP[i + 1], strict=True))
    return "#" + "".join(f"{round(x):02x}" for x in mixed)


def _ink(fill):
    red, green, blue = (int(fill[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.3 * red + 0.59 * green + 0.11 * blue > 140 else "#fff"
