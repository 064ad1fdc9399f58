"""What each step of a range query is computed from, to tell whether that is as it was before.

A step depends on the samples in its windows or, where rows of tiers stand in for them, on which
rows: those that cover a window follow from all windows of the query, from frontiers and from
repairs that are pending. Of the rows that cover each step a mark is kept, a sum of hashes. Equal
marks, and no commit to a table since that touched the time of the windows, mean equal bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
import numpy.typing as npt

from varve.model.window import RAW, Window
from varve.promql.kernels.types import I64, Bools
from varve.query import selector_plan
from varve.query.changes import Changes, Span
from varve.query.cover import Cover
from varve.query.provenance import Provenance, SelectorUse
from varve.query.reader import Reader
from varve.query.selector_plan import Part, SelectorPlan
from varve.query.selectors import selector_text
from varve.query.step_cache import KeptSteps, Reach, shared, untouched
from varve.query.view import View

SAMPLES: Final = "samples"
# Odd, so that products keep all bits of their factors apart.
_TIMES: Final = np.uint64(0x9E3779B97F4A7C15)
_WIDTHS: Final = 0xC2B2AE3D27D4EB4F
_MIX: Final = np.uint64(0xFF51AFD7ED558CCD)

Marks = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class StepSources:
    """What answers the selectors of a query at the times of a grid. plans: for each of `reaches`
    the rows of tiers that do; None where samples do.
    """

    reaches: Sequence[Reach]
    plans: Sequence[SelectorPlan | None]
    times: I64
    marks: Marks
    """(reach x step)"""

    def unchanged(self, kept: KeptSteps, view: View) -> Bools | None:
        """Which steps are computed from what they were when some were kept; None if that is not
        known. Of the steps that are kept, those of the same times are compared.
        """
        usable: Bools = np.isin(self.times, kept.times)
        if kept.marks.shape[0] != len(self.reaches):
            return None
        here, there = shared(self.times, kept.times)
        same = (self.marks[:, here] == kept.marks[:, there]).all(axis=0)
        usable[here] &= same
        changes = _changes(view)
        for reach, plan in zip(self.reaches, self.plans, strict=True):
            for table in _tables(plan):
                spans = _after(changes.get(table), kept.versions.get(table))
                if spans is None:
                    return None
                usable &= untouched(self.times, [reach], spans)
        return usable

    def plan_pieces(self, reader: Reader, piece: slice) -> None:
        """Has the steps of a piece read as they would be among all."""
        for reach, plan in zip(self.reaches, self.plans, strict=True):
            windows = reach.windows(self.times[piece])
            reader.plan_as(reach.matchers, windows, None if plan is None else _at(plan, piece))

    def provenance(self, of_pieces: Provenance) -> Provenance:
        """What all steps were answered from, and what was read for those that were computed."""
        uses: dict[str, list[SelectorUse]] = {}
        for reach, plan in zip(self.reaches, self.plans, strict=True):
            text = selector_text(reach.matchers)
            use = SelectorUse(text, (RAW,), 0, 0)
            if plan is not None:
                span = Window(*reach.windows(self.times).span)
                use = selector_plan.use_of(text, plan.parts, (), 0, None, span)
            uses.setdefault(text, []).append(use)
        for read in of_pieces.selectors:
            use = uses[read.selector][0]
            uses[read.selector][0] = replace(
                use,
                rows=use.rows + read.rows,
                nbytes=use.nbytes + read.nbytes,
                by_spark=use.by_spark or read.by_spark,
            )
        return replace(of_pieces, selectors=tuple(use for some in uses.values() for use in some))


def sources_of(reader: Reader, reaches: Sequence[Reach], times: I64) -> StepSources | None:
    """What answers each selector; None if an answer from it would not be kept: what has expired is
    missing in it, or stands for another time.
    """
    plans: list[SelectorPlan | None] = []
    marks = np.zeros((len(reaches), len(times)), dtype=np.uint64)
    for number, reach in enumerate(reaches):
        windows = reach.windows(times)
        plan = reader.choose(reach.matchers, windows)
        if plan is None:
            if not reader.has_samples_for(reach.matchers, windows):
                return None
        elif isinstance(plan, SelectorPlan) and (cover := _whole_cover(plan, len(times))):
            marks[number] = marks_of(cover)
        else:
            return None
        plans.append(plan)
    return StepSources(reaches, plans, times, marks)


def versions_of(view: View) -> Mapping[str, int] | None:
    """Versions of the tables that steps are computed from; None if what changes in them is not
    known.
    """
    if view.changes is None:
        return None
    versions = view.provenance.versions
    return {table: versions[table] for table in _changes(view) if table in versions}


def marks_of(cover: Cover) -> Marks:
    """For each range what covers it: the windows of tiers, and the rows made of samples."""
    starts, ends = cover.ranges.starts, cover.ranges.ends
    marks = np.zeros(len(ends), dtype=np.uint64)
    for level in cover.levels:
        width, size = level.tier.tier.width_ms, len(level.used)
        window_ends = level.origin_ms + width * np.arange(1, size + 1, dtype=np.int64)
        before = _sums(np.where(level.used, _hashed(window_ends, width), np.uint64(0)))
        low = np.clip((starts - level.origin_ms) // width, 0, size)
        high = np.clip(-(-(ends - level.origin_ms) // width), 0, size)
        marks += before[high] - before[low]
    cuts = cover.cuts
    if len(cover.raw_ends):
        span = np.searchsorted(cover.raw_starts, cuts, "left") - 1
        inside = (span >= 0) & (cuts <= cover.raw_ends[span])
        before = _sums(np.where(inside, _hashed(cuts, 0), np.uint64(0)))
        marks += before[np.searchsorted(cuts, ends, "right")]
        marks -= before[np.searchsorted(cuts, starts, "right")]
    return marks


def _whole_cover(plan: SelectorPlan, steps: int) -> Cover | None:
    """What covers all series of a plan as they are asked for."""
    if len(plan.parts) != 1 or plan.moved_ms:
        return None
    (part,) = plan.parts
    cover = part.cover
    if cover is None or part.missing() is not None or not cover.is_by_step(steps):
        return None
    return cover


def _at(plan: SelectorPlan, piece: slice) -> SelectorPlan:
    def part(one: Part) -> Part:
        if one.rows is None or one.cover is None:
            return one
        return replace(one, rows=replace(one.rows, cover=one.cover.at(piece)))

    return replace(plan, parts=tuple(map(part, plan.parts)))


def _tables(plan: SelectorPlan | None) -> Iterator[str]:
    """What is read. Samples are even where rows stand in for them: late ones wait for a repair."""
    yield SAMPLES
    for part in () if plan is None else plan.parts:
        for level in () if part.cover is None else part.cover.levels:
            if level.windows:
                yield level.tier.tier.table


def _changes(view: View) -> Mapping[str, Changes]:
    """What is known of changes, by table."""
    found = {} if view.changes is None else {SAMPLES: view.changes}
    found |= {tier.tier.table: tier.changes for tier in view.tiers if tier.changes is not None}
    return found


def _after(changes: Changes | None, version: int | None) -> Sequence[Span] | None:
    return None if changes is None or version is None else changes.after(version)


def _hashed(times: I64, width_ms: int) -> Marks:
    mixed = times.astype(np.uint64) * _TIMES + np.uint64(width_ms * _WIDTHS % (1 << 64))
    mixed ^= mixed >> np.uint64(29)
    mixed *= _MIX
    return mixed ^ (mixed >> np.uint64(32))


def _sums(hashes: Marks) -> Marks:
    """The sum of those before each, and of all."""
    return np.concatenate([np.zeros(1, np.uint64), np.cumsum(hashes, dtype=np.uint64)])
