"""Tables for people, with columns as wide as their widest cell."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from varve.cli.terminal import printable


def table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    """Yields lines of text, the head first. Every row has as many cells as the head."""
    everything = [tuple(map(printable, row)) for row in (head, *rows)]
    widths = [max(len(row[i]) for row in everything) for i in range(len(head))]
    for row in everything:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join(cells).rstrip()
