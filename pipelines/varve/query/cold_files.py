"""Where the files of a view that are not in memory have samples, by their footers."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from varve.promql.errors import StorageError
from varve.promql.kernels.types import I64
from varve.query.decoded_files import Footer
from varve.query.sample_columns import SampleColumns
from varve.query.view import FileGone, View
from varve.storage.log import LiveFile

Check = Callable[[], None]


@contextmanager
def reading() -> Iterator[None]:
    """Turns errors of the storage into those of a query."""
    try:
        yield
    except FileNotFoundError as err:
        raise FileGone(f"cannot read samples: {err}") from err
    except OSError as err:
        raise StorageError(f"cannot read samples: {err}") from err


def footers(
    view: View, ids: I64, start_ms: int, end_ms: int, check: Check
) -> Iterator[tuple[str, Footer]]:
    """The files that can hold samples of the ids in the range, each with its footer."""
    paths, _ = view.files.overlapping(ids, start_ms, end_ms)
    return zip(paths, view.row_groups.footers(paths, check), strict=True)


def row_groups(
    view: View, ids: I64, start_ms: int, end_ms: int, check: Check
) -> Iterator[tuple[str, int]]:
    """The row groups of these files that can."""
    for path, footer in footers(view, ids, start_ms, end_ms, check):
        yield from ((path, group) for group in footer.overlapping(ids, start_ms, end_ms))


def next_to(
    view: View, ids: I64, start_ms: int, end_ms: int, check: Check, *, newest: bool, most: int
) -> Iterator[tuple[int, SampleColumns]]:
    """The row groups with samples of the ids that reach furthest towards an end of the range.

    With each comes how far it reaches, the furthest first. That is towards end_ms if `newest`,
    else towards start_ms; `most` of them are given, of as many files: those that reach furthest.
    Raises StorageError.
    """

    def reach(file: LiveFile) -> int:
        return file.maximum["ts"] if newest else -file.minimum["ts"]

    files = heapq.nlargest(most, view.files.select(ids, start_ms, end_ms), key=reach)
    paths = [file.path for file in files]
    with reading():
        found = [
            (int((footer.zones.last_ms if newest else footer.zones.first_ms)[group]), path, group)
            for path, footer in zip(paths, view.row_groups.footers(paths, check), strict=True)
            for group in footer.overlapping(ids, start_ms, end_ms)
        ]
        found.sort(reverse=newest)
        parts = view.row_groups.read(((path, group) for _, path, group in found[:most]), check)
        yield from zip((reach for reach, *_ in found), parts, strict=False)
