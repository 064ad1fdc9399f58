"""Series of a selector by how far their rows have expired: those of a class before all others.

The marks are positions of samples and of the tiers (varve/storage/positions.py). Their names say
which series they are about, so they hold whatever becomes of the settings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from varve.model.series_matcher import SeriesMatcher, matching
from varve.model.window import Window, window_end
from varve.promql.kernels.types import I64, Bools
from varve.promql.labels.label_table import LabelTable
from varve.query.series_index import SelectedSeries
from varve.query.tier_view import ClassMark, TierView
from varve.rollups import time_ranges
from varve.storage import positions


@dataclass(frozen=True)
class SeriesGroup:
    """Series of a selector whose rows have expired alike.

    by_id: their rows in the selection, in ascending order of series_id. raw_from_ms: samples up to
    there may have been deleted, None if none have. tiers: as these series find them, the finest
    first. whom: the retention classes they are in, as text; "" for series of none.
    """

    by_id: I64
    raw_from_ms: int | None
    tiers: Sequence[TierView]
    whom: str = ""

    @property
    def of_whom(self) -> str:
        """To be put behind the word rows or samples."""
        return f" of {self.whom}" if self.whom else ""


def marks_of(at: Mapping[str, int]) -> tuple[ClassMark, ...]:
    """The marks of retention classes among the positions of a table."""
    return tuple(
        ClassMark(SeriesMatcher.from_text(text), until_ms)
        for text, until_ms in positions.expired_classes(at)
    )


def groups_of(
    series: SelectedSeries,
    raw_from_ms: int | None,
    raw_marks: Sequence[ClassMark],
    tiers: Sequence[TierView],
    start_ms: int,
) -> tuple[SeriesGroup, ...]:
    """The groups of a selection for windows that begin at start_ms or later, those of no class
    first; one group if no class has expired that far. raw_marks: those of samples.
    """
    matchers = {mark.matcher for mark in raw_marks if mark.until_ms > start_ms}
    for view in tiers:  # an instant selector may read the row in which its window begins
        first_ms = start_ms - view.tier.width_ms
        matchers |= {mark.matcher for mark in view.classes if mark.until_ms > first_ms}
    masks = {matcher: _members(series.labels, matcher) for matcher in matchers}
    masks = {matcher: mask for matcher, mask in masks.items() if mask.any()}
    number = np.zeros(series.size, dtype=np.int64)
    for mask in masks.values():
        number = np.unique(2 * number + mask, return_inverse=True)[1]
    groups = []
    for which in range(int(number.max(initial=0)) + 1):
        by_id = series.by_id[number[series.by_id] == which]
        of = [matcher for matcher, mask in masks.items() if mask[by_id[:1]].any()]
        groups.append(_group(by_id, of, raw_from_ms, raw_marks, tiers))
    return tuple(sorted(groups, key=lambda group: group.whom))


def _group(
    by_id: I64,
    of: Collection[SeriesMatcher],
    raw_from_ms: int | None,
    raw_marks: Iterable[ClassMark],
    tiers: Sequence[TierView],
) -> SeriesGroup:
    if not of:
        return SeriesGroup(by_id, raw_from_ms, tiers)

    def latest(marks: Iterable[ClassMark], everyone: int | None) -> int | None:
        until = [mark.until_ms for mark in marks if mark.matcher in of]
        return max(until if everyone is None else [*until, everyone], default=None)

    raw_from = latest(raw_marks, raw_from_ms)
    whom = "the series " + " and ".join(sorted(matcher.selector for matcher in of))
    return SeriesGroup(by_id, raw_from, _tiers_of(tiers, raw_from, latest), whom)


def _tiers_of(
    tiers: Sequence[TierView],
    raw_from_ms: int | None,
    latest: Callable[[Iterable[ClassMark], int | None], int | None],
) -> tuple[TierView, ...]:
    """The tiers as series find them whose samples up to raw_from_ms have expired."""
    below_ms = raw_from_ms
    found = []
    for view in tiers:
        own_ms = latest(view.classes, view.refused_until_ms)
        pending = view.pending
        if below_ms is not None and view.frontier_ms is not None:
            # Windows that begin before the rows that are left below keep the row that they have.
            begin_ms = window_end(below_ms, view.tier.width_ms)
            whole = begin_ms < view.frontier_ms
            inside = Window(begin_ms, view.frontier_ms) if whole else None
            pending = () if inside is None else tuple(time_ranges.clip(pending, inside))
        found.append(
            replace(view, first_ms=own_ms, refused_until_ms=own_ms, pending=tuple(pending))
        )
        below_ms = own_ms
    return tuple(found)


def _members(labels: LabelTable, matcher: SeriesMatcher) -> Bools:
    """Which series a matcher selects."""

    def find() -> Bools:
        found: Bools = np.ones(labels.size, dtype=np.bool_)
        for name, pattern in matcher.labels:
            column = labels.columns.get(name)
            if column is None:
                found &= matching(pattern, [""])[0]
                continue
            codes, place = np.unique(column.codes, return_inverse=True)
            values = [column.interned.values[code] for code in codes.tolist()]
            found &= matching(pattern, values)[place]
        return found

    return labels.cached(("retention class", matcher), find)
