"""What answers a selector: for each group of its series rows of tiers or samples, and what of both
has expired.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from varve.model.clock import utc_text
from varve.model.window import RAW, TIER_NAMES, Window
from varve.promql.errors import QueryError, StorageError
from varve.promql.interrupt import Check
from varve.promql.storage import RollupRows, TierChoice, WindowFunction
from varve.promql.syntax.literals import format_duration
from varve.query import tier_choice
from varve.query.cover import Cover
from varve.query.provenance import SelectorUse
from varve.query.rollup_reader import RollupReader
from varve.query.series_groups import SeriesGroup
from varve.query.series_index import SelectedSeries
from varve.query.tier_choice import Estimate, PlannedRows
from varve.rollups import time_ranges


@dataclass(frozen=True)
class Part:
    """A group of series and what answers for it; samples do, as far as there are any, if `rows` is
    None. refusal: why rows cannot, if neither they nor samples answer all.
    """

    group: SeriesGroup
    rows: PlannedRows | None
    refusal: str = ""

    @property
    def cover(self) -> Cover | None:
        return None if self.rows is None else self.rows.cover

    def missing(self) -> tuple[int, str] | None:
        """Up to when rows or samples are missing that have expired, and which; None if none are."""
        cover = self.cover
        return None if cover is None else tier_choice.missing(cover, self.group.raw_from_ms)


@dataclass(frozen=True, slots=True)
class SelectorPlan(TierChoice):
    """Rows of tiers for some groups of series at least."""

    parts: tuple[Part, ...] = field(default=(), compare=False, repr=False)
    selected: SelectedSeries | None = field(default=None, compare=False, repr=False)
    """The series whose rows the groups name."""


def plan(
    groups: Sequence[SeriesGroup],
    windows: WindowFunction,
    estimate: Callable[[int], Estimate],
    forced: str | None,
) -> SelectorPlan | None:
    """Chooses for each group; None if samples answer for all of them.

    estimate: of so many series of the selector. QueryError if rows that are left are too wide for
    the series of no class, or for all: where other series have an answer, those of a class that
    have none are a warning.
    """
    parts: list[Part] = []
    refused: list[QueryError] = []
    for group in groups:
        size = estimate(len(group.by_id))
        try:
            rows = tier_choice.choose(
                windows, group.tiers, group.raw_from_ms, size, forced, group.of_whom
            )
        except QueryError as err:
            if not group.whom:
                raise
            refused.append(err)
            parts.append(Part(group, None, str(err)))
        else:
            parts.append(Part(group, rows))
    if refused and len(refused) == len(parts):
        raise refused[0]
    planned = [part.rows for part in parts if part.rows is not None]
    if not planned:
        return None
    widest = max(planned, key=lambda rows: _place(rows.tier))
    others = sum(len(part.group.by_id) for part in parts if part.rows is None)
    return SelectorPlan(
        widest.tier,
        "; ".join(_why(parts)),
        sum(rows.series for rows in planned) + others,
        sum(rows.rows for rows in planned) + (estimate(others).samples if others else 0),
        max(rows.moved_ms for rows in planned),
        tuple(parts),
    )


def _why(parts: Sequence[Part]) -> Iterator[str]:
    for part in parts:
        rows = part.rows
        if len(parts) == 1 and rows is not None and not part.group.whom:
            yield rows.why
            continue
        whom = part.group.whom or "the others"
        yield f"{whom}: samples" if rows is None else f"{whom}: {rows.tier}, {rows.why}"


def _place(tier: str) -> int:
    """Wider tiers have greater ones."""
    return TIER_NAMES.index(tier)


@dataclass(frozen=True)
class JoinedRollups:
    """Implements promql.storage.Rollups: those of all groups."""

    readers: Sequence[RollupReader]

    def blocks(self, steps: int, check: Check) -> Iterator[RollupRows]:
        for reader in self.readers:
            yield from reader.blocks(steps, check)


def use_of(
    selector: str,
    parts: Sequence[Part],
    readers: Sequence[RollupReader],
    samples: int,
    missing_until_ms: int | None,
    span: Window,
) -> SelectorUse:
    """What a selector was answered from. samples, missing_until_ms: of the parts without rows."""
    covers = [part.cover for part in parts if part.cover is not None]
    tiers = {name for cover in covers for name in cover.tiers}
    if len(covers) < len(parts):
        tiers.add(RAW)
    pending = {
        window
        for cover in covers
        for level in cover.levels
        for window in time_ranges.clip(level.tier.pending, span)
    }
    missing = [found[0] for part in parts if (found := part.missing()) is not None]
    if missing_until_ms is not None:
        missing.append(missing_until_ms)
    return SelectorUse(
        selector,
        tuple(sorted(tiers, key=_place, reverse=True)),
        sum(reader.amount.rows for reader in readers) + samples,
        sum(reader.amount.nbytes for reader in readers) + 16 * samples,
        max((part.rows.moved_ms for part in parts if part.rows is not None), default=0),
        max(missing, default=None),
        tuple(sorted(pending, key=lambda window: window.start_ms)),
    )


def warnings_of(selector: str, parts: Sequence[Part]) -> Iterator[str]:
    """What an answer from rows is not."""
    for part in parts:
        if part.rows is not None and part.rows.moved_ms:
            moved = format_duration(part.rows.moved_ms / 1000)
            yield (
                f"{selector}: approximate, since samples{part.group.of_whom} have expired: ends of"
                f" windows are up to {moved} earlier than asked for"
            )
        if (missing := part.missing()) is not None:
            yield _missing_text(*missing, part.group)
        if part.refusal:
            yield f"partial: {part.refusal}"


def require_samples(
    groups: Sequence[SeriesGroup], start_ms: int, end_ms: int, advice: str = ""
) -> None:
    """Raises StorageError if all samples of all groups in (start_ms, end_ms] have expired. advice:
    what may help, for its text.
    """
    gone = _expired_in(groups, start_ms)
    if len(gone) == len(groups) and all(end_ms <= until for until, _ in gone):
        until, group = min(gone, key=lambda one: one[0])
        raise StorageError(
            f"samples{group.of_whom} up to {utc_text(until)} have expired, and rows of rollups do"
            f" not answer this: ask for a later time{advice}"
        )


def expired_samples(
    groups: Sequence[SeriesGroup], start_ms: int
) -> tuple[int | None, tuple[str, ...]]:
    """Up to when samples later than start_ms have expired, None if none have; warnings of it."""
    gone = _expired_in(groups, start_ms)
    texts = tuple(_missing_text(until, "samples", group) for until, group in gone)
    return max((until for until, _ in gone), default=None), texts


def _expired_in(groups: Sequence[SeriesGroup], start_ms: int) -> list[tuple[int, SeriesGroup]]:
    found = [(g.raw_from_ms, g) for g in groups if g.raw_from_ms is not None]
    return [(until, group) for until, group in found if start_ms < until]


def _missing_text(until_ms: int, what: str, group: SeriesGroup) -> str:
    return f"partial: {what}{group.of_whom} up to {utc_text(until_ms)} have expired"
