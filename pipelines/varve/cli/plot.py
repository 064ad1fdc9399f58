"""Draws lines with Braille characters, each of which has two points across and four down."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Sequence

Line = Sequence[tuple[float, float]]
"""(time in seconds, value), in ascending order of time."""

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
_BLANK = 0x2800
_COLOURS = (36, 33, 34, 35, 32, 31, 96, 93, 94, 95)
_LABEL = 10


def plot(
    lines: Sequence[Line],
    start: float,
    end: float,
    gap: float,
    width: int,
    height: int,
    *,
    colour: bool,
) -> list[str]:
    """Returns rows of text: `height` for the canvas, and one for the times below it.

    start and end are Unix seconds, start < end. Neighbours more than `gap` seconds apart are not
    joined. Of lines that share a cell the last one gives it its colour.
    """
    finite = [v for line in lines for _, v in line if math.isfinite(v)]
    low, high = _bounds(finite)
    across = max(8, width - _LABEL - 1)
    canvas = _Canvas(across, height)
    for i, line in enumerate(lines):
        before = None
        for at, value in line:
            if not math.isfinite(value):
                before = None
                continue
            point = (
                (at - start) / (end - start) * (across * 2 - 1),
                (high - value) / (high - low) * (height * 4 - 1),
            )
            joined = before is not None and at - before[0] <= gap
            canvas.draw(before[1] if joined and before else point, point, i)
            before = (at, point)
    marks = {
        0: high,
        height // 2: high - (high - low) * (height // 2) / (height - 1),
        height - 1: low,
    }
    rows = [
        f"{_number(marks[y]) if y in marks else '':>{_LABEL}} {row}"
        for y, row in enumerate(canvas.rows(colour=colour))
    ]
    return [*rows, " " * (_LABEL + 1) + _times(start, end, across)]


def swatch(index: int, *, colour: bool) -> str:
    """The sample of line `index` in a legend."""
    return f"\x1b[{_COLOURS[index % len(_COLOURS)]}m──\x1b[0m" if colour else "──"


class _Canvas:
    def __init__(self, width: int, height: int) -> None:
        self._dots = [[0] * width for _ in range(height)]
        self._owner = [[0] * width for _ in range(height)]

    def draw(self, begin: tuple[float, float], end: tuple[float, float], owner: int) -> None:
        steps = max(1, math.ceil(max(abs(end[0] - begin[0]), abs(end[1] - begin[1]))))
        for step in range(steps + 1):
            x = round(begin[0] + (end[0] - begin[0]) * step / steps)
            y = round(begin[1] + (end[1] - begin[1]) * step / steps)
            self._dots[y // 4][x // 2] |= _DOTS[y % 4][x % 2]
            self._owner[y // 4][x // 2] = owner

    def rows(self, *, colour: bool) -> list[str]:
        rows = []
        for dots, owners in zip(self._dots, self._owner, strict=True):
            cells = []
            for dot, owner in zip(dots, owners, strict=True):
                cell = chr(_BLANK + dot)
                tinted = colour and dot
                cells.append(
                    f"\x1b[{_COLOURS[owner % len(_COLOURS)]}m{cell}\x1b[0m" if tinted else cell
                )
            rows.append("".join(cells))
        return rows


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    if not values:
        return 0.0, 1.0
    low, high = min(values), max(values)
    if low == high:
        margin = abs(low) / 10 or 1.0
        return low - margin, high + margin
    return low, high


def _number(value: float) -> str:
    for unit, prefix in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k"), (1e-2, "")):
        if abs(value) >= unit:
            scale = 1e3 if prefix == "k" else max(unit, 1.0)
            return f"{value / scale:.4g}{prefix}"
    return f"{value:.3g}"


def _times(start: float, end: float, width: int) -> str:
    """The local times at both ends and in the middle, under a canvas of `width` cells."""
    spelled = "%H:%M:%S" if end - start < 86_400 else "%d %b %H:%M"
    first, middle, last = (
        dt.datetime.fromtimestamp(at).astimezone().strftime(spelled)
        for at in (start, (start + end) / 2, end)
    )
    left = f"{first:<{max(0, width // 2 - len(middle) // 2)}}{middle}"
    return f"{left:<{max(0, width - len(last))}}{last}"
