"""The terminal plot."""

from __future__ import annotations

import math

from varve.cli.plot import plot


def drawn(rows):
    """Cells of the canvas that have a dot, as (row, column)."""
    return {
        (y, x)
        for y, row in enumerate(rows[:-1])
        for x, cell in enumerate(row[11:])
        if "\u2800" < cell <= "\u28ff"
    }


def test_a_rising_line_goes_from_the_lower_left_to_the_upper_right():
    rows = plot([[(0, 0.0), (100, 10.0)]], 0, 100, 200, 51, 8, colour=False)

    cells = drawn(rows)
    assert (7, 0) in cells
    assert (0, 39) in cells
    assert all(len(row) == 51 for row in rows)
    assert rows[0].startswith("        10 ")
    assert rows[7].startswith("         0 ")


def test_points_further_apart_than_the_gap_are_not_joined():
    rows = plot([[(0, 1.0), (100, 1.0)]], 0, 100, 50, 51, 4, colour=False)

    assert {x for _, x in drawn(rows)} == {0, 39}


def test_nan_and_infinities_are_gaps():
    line = [(0, 1.0), (25, math.nan), (50, 2.0), (75, math.inf), (100, 3.0)]

    rows = plot([line], 0, 100, 30, 51, 4, colour=False)

    assert len({x for _, x in drawn(rows)}) == 3


def test_nothing_to_draw_is_an_empty_canvas():
    assert drawn(plot([[], [(5, math.nan)]], 0, 10, 1, 40, 4, colour=False)) == set()


def test_colours_are_asked_for():
    assert "\x1b[" in "".join(plot([[(0, 1.0), (1, 2.0)]], 0, 1, 2, 40, 4, colour=True))
