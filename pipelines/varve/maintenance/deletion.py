"""Deletion: samples that an operator wants gone, by series and time, from every table.

The samples go in one commit, which numbers the deletion and says in its metadata what it was: that
is the audit, and what a run that dies is finished from. Where some of them are in colder roots, a
commit before says the same of what is about to begin. Then each tier, from fine to coarse, loses
the rows of the windows in the range, and gets those that still have samples, at the ends of the
range mostly, computed anew from the table below. A commit of a tier moves its `turn:`, so work that
was planned from what was there before fails and is planned again: rows are as if the samples had
never been.

A window at an end of the range that cannot be computed anew, as what it was computed from has
expired, goes as a whole.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from varve.maintenance import deletion_log, record_deletion, tiering
from varve.maintenance.deletion_log import Told, Wanted
from varve.maintenance.row_removal import cut_file, rewrite_colder, within
from varve.model.clock import utc_text
from varve.model.errors import BadRequest, Conflict
from varve.model.window import TIERS, Tier, Window, window_end
from varve.query.selectors import parse_selector, selected_ids
from varve.query.series_index import Ids
from varve.query.times import MAX_TIME_MS, MIN_TIME_MS
from varve.rollups import algebra
from varve.rollups.expired_series import ExpiredSeriesReader, refused_windows
from varve.rollups.task import NO_KEYS, roll_up
from varve.rollups.window_keys import isin, unique_keys
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, rewrite
from varve.storage.files import NewFile, write_file
from varve.storage.snapshot import Follower, Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table
from varve.storage.zone_map import Ints, Mask

MOST_SERIES = 500_000
"""Series of one deletion: their ids are in its commit."""

_ATTEMPTS = 20

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DueDeletion:
    """What a deletion would take out."""

    wanted: Wanted
    at_ms: int
    ids: Ids
    """Series, sorted."""
    rows: Mapping[str, int]
    """By table: samples and rows of windows that go."""
    anew: Mapping[str, int]
    """By tier table: rows of windows at the ends of the range, which are computed anew."""

    @property
    def is_empty(self) -> bool:
        return not any(self.rows.values())

    def as_json(self) -> Mapping[str, Any]:
        counts = {"series": len(self.ids), "rows": dict(self.rows), "anew": dict(self.anew)}
        return asdict(self.wanted) | counts

    def lines(self) -> Iterable[str]:
        wanted = self.wanted
        begin = "the beginning" if wanted.start_ms <= MIN_TIME_MS else utc_text(wanted.start_ms)
        end = "now on" if wanted.end_ms >= MAX_TIME_MS else utc_text(wanted.end_ms)
        yield f"{' or '.join(wanted.match)}: {len(self.ids):,} series, from {begin} to {end}"
        yield f"samples: {self.rows['samples']:,} to go"
        for table, anew in self.anew.items():
            yield f"{table}: {self.rows[table]:,} rows to go, {anew:,} to be computed anew"


@dataclass(frozen=True, slots=True)
class Deleted:
    """What went. number: of the deletion; None if there was nothing to delete."""

    number: int | None
    samples: int
    rows_removed: Mapping[str, int]
    """Rows of windows, by tier table; of histograms and exemplars, by theirs."""
    rows_computed: Mapping[str, int]
    """Of these, those that took their place."""

    def as_json(self) -> Mapping[str, Any]:
        return asdict(self)

    def lines(self) -> Iterable[str]:
        if self.number is None:
            yield "there is nothing to delete"
            return
        yield f"deletion {self.number}: {self.samples:,} samples gone"
        for table, removed in self.rows_removed.items():
            yield f"{table}: {removed:,} rows gone, {self.rows_computed[table]:,} computed anew"


class Deletion:
    """The batch job: deletes samples and what rollups say of them."""

    name: ClassVar[str] = "delete"
    tables: ClassVar[tuple[str, ...]] = ("samples", *(tier.table for tier in TIERS), "series")

    def __init__(self, store: Store, wanted: Wanted) -> None:
        """Raises BadRequest if a selector cannot be parsed, or there is none."""
        self._store, self._wanted = store, wanted
        if not wanted.match:
            raise BadRequest("name the series to delete: a selector is wanted")
        try:
            self._selectors = [parse_selector(text) for text in wanted.match]
        except ValueError as err:
            raise BadRequest(f"cannot select series: {err}") from err

    def plan(self, now_ms: int, snapshots: Mapping[str, Snapshot]) -> DueDeletion:
        """Raises BadRequest if too many series are meant, or a regex is malformed."""
        try:
            ids = selected_ids(snapshots["series"], self._selectors)
        except ValueError as err:
            raise BadRequest(f"cannot select series: {err}") from err
        if len(ids) > MOST_SERIES:
            raise BadRequest(
                f"{len(ids):,} series are selected, over the {MOST_SERIES:,} of one deletion:"
                " delete them in several, by a label that parts them"
            )
        rows = {"samples": len(_keys(snapshots["samples"], _reach(self._wanted, None), ids))}
        rows |= record_deletion.rows_meant(self._store, _reach(self._wanted, None), ids)
        anew = {}
        for tier in TIERS:
            keys = _keys(snapshots[tier.table], _reach(self._wanted, tier), ids)
            at = Table(self._store, tier.table).positions()
            below = Table(self._store, tier.source).positions()
            ends = _at_ends(self._store, tier, self._wanted, ids, at, below)
            computed = [k for _, k in ends] or [NO_KEYS]
            remade = isin(
                keys[:, 0].copy(), keys[:, 1].copy(), unique_keys(np.concatenate(computed))
            )
            anew[tier.table] = int(remade.sum())
            rows[tier.table] = len(keys) - anew[tier.table]
        return DueDeletion(self._wanted, now_ms, ids, rows, anew)

    def run(self, work: DueDeletion) -> Deleted:
        """Raises Conflict if rivals are in the way all the time."""
        if finish(self._store):
            # What was left undone may have been this.
            work = self.plan(
                work.at_ms, {name: snapshot(self._store, name) for name in self.tables}
            )
        if work.is_empty:
            return Deleted(None, 0, {}, {})
        told = Told(work.wanted, work.ids, work.at_ms)
        number, samples = _delete_samples(self._store, told)
        log.info("deletion %d: %d samples of %s", number, samples, " or ".join(work.wanted.match))
        removed, computed = {}, {}
        for tier in TIERS:
            removed[tier.table], computed[tier.table] = _forget(
                self._store, tier, number, work.wanted, work.ids
            )
        window = _reach(work.wanted, None)
        for table, _ in record_deletion.owing(self._store):
            gone = record_deletion.forget(self._store, table, number, window, work.ids)
            removed[table], computed[table] = gone, 0
        return Deleted(number, samples, removed, computed)


def is_owed(store: Store) -> bool:
    """Whether a deletion has not come to all tables, or all roots, yet."""
    return bool(
        deletion_log.begun(store) or deletion_log.owing(store) or record_deletion.owing(store)
    )


def finish(store: Store) -> bool:
    """Does what a deletion that died has left undone. Returns whether there was anything.

    Raises NeedsOperator if the commit of the deletion is no longer in the log of samples, OSError
    if the storage fails, such as that of a colder root the deletion has begun with.
    """
    if (begun := deletion_log.begun(store)) is not None:
        _delete_samples(store, begun)
    owing, records = deletion_log.owing(store), record_deletion.owing(store)
    if not owing and not records:
        return begun is not None
    for table in tiering.TABLES:
        tiering.take_back(store, table)
    first = min(done for _, done in [*owing, *records]) + 1
    for number, told in deletion_log.since(store, first):
        for tier, done in owing:
            if done < number:
                _forget(store, tier, number, told.wanted, told.ids)
        for table, done in records:
            if done < number:
                record_deletion.forget(store, table, number, _reach(told.wanted, None), told.ids)
        log.info("deletion %d, which had been left undone, is finished", number)
    return True


def _delete_samples(store: Store, told: Told) -> tuple[int, int]:
    """Commits the deletion; returns its number, and how many samples went.

    Rows of colder roots go before those of the hot one, and those are other tables: so if there are
    any, a commit that says what is to go is first, and whoever comes after a death goes on.
    """
    window = _reach(told.wanted, None)

    def gone(ids: Ints, times: Ints) -> Mask:
        return within(ids, times, told.ids, window)

    begun, samples = told.number, 0
    for _ in range(_ATTEMPTS):
        tiering.give_up(store, "samples")
        follower = Follower(store, "samples")
        held, said = (follower.position(p()) for p in (positions.deletion, positions.deleting))
        last = -1 if held is None else held
        if begun is not None and last >= begun:
            return begun, samples  # a rival has gone on with it
        if begun is None and said is not None and said > last:
            finish(store)
            continue
        number = last + 1
        bounds = Bounds(window.start_ms, window.end_ms, told.ids)
        found = [cut_file(follower.snapshot, f, gone) for f in follower.snapshot.select(bounds)]
        cuts = [cut for cut in found if cut is not None]
        samples = sum(cut.rows_gone for cut in cuts)
        try:
            if begun is None and any(cut.root.root != store.root for cut in cuts):
                deletion_log.begin(store, told, Step(said, number))
                begun = said = number
            own = rewrite_colder(follower.snapshot, cuts, {deletion_log.KEY: {"number": number}})
            rewrite(
                follower.table,
                [cut.rest for cut in own if cut.rest is not None],
                [cut.removal for cut in own],
                transactions={
                    positions.deletion(): Step(held, number),
                    positions.deleting(): Step(said, number),
                },
                metadata={deletion_log.KEY: told.as_json() | {"samples": samples}},
            )
        except Conflict as err:
            log.info("deletion of samples starts over: %s", err)
            if begun is None:
                finish(store)
            continue
        # A move may have begun since the look at the beginning.
        tiering.take_back(store, "samples")
        return number, samples
    raise Conflict(f"{_ATTEMPTS} attempts to delete samples met a rival")


def _forget(store: Store, tier: Tier, number: int, wanted: Wanted, ids: Ids) -> tuple[int, int]:
    """Makes the rows of a tier as if the samples had never been; returns how many rows went, and
    how many were computed anew. Raises Conflict if rivals are in the way all the time.
    """
    for _ in range(_ATTEMPTS):
        tiering.give_up(store, tier.table)
        target = Follower(store, tier.table)  # before the table below, as drivers do
        done = target.position(positions.deletion())
        if done is not None and done >= number:
            return 0, 0  # a rival has finished it
        source = Follower(store, tier.source)
        window = _reach(wanted, tier)

        def gone(series: Ints, ends: Ints, window: Window = window) -> Mask:
            return within(series, ends, ids, window)

        bounds = Bounds(window.start_ms, window.end_ms, ids)
        found = [cut_file(target.snapshot, f, gone) for f in target.snapshot.select(bounds)]
        cuts = [cut for cut in found if cut is not None]
        made = _computed(target, source, tier, wanted, ids)
        turn = target.position(positions.turn(tier.name))
        try:
            own = rewrite_colder(target.snapshot, cuts, {deletion_log.KEY: {"number": number}})
            rewrite(
                target.table,
                [*(cut.rest for cut in own if cut.rest is not None), *made],
                [cut.removal for cut in own],
                transactions={
                    positions.turn(tier.name): Step(turn, 0 if turn is None else turn + 1),
                    positions.deletion(): Step(done, number),
                },
                metadata={deletion_log.KEY: {"number": number}},
            )
        except Conflict as err:
            log.info("%s: deletion %d starts over: %s", tier.table, number, err)
            continue
        tiering.take_back(store, tier.table)
        return sum(cut.rows_gone for cut in cuts), sum(file.rows for file in made)
    raise Conflict(f"{tier.table}: {_ATTEMPTS} attempts to forget deleted samples met a rival")


def _computed(
    target: Follower, source: Follower, tier: Tier, wanted: Wanted, ids: Ids
) -> Sequence[NewFile]:
    """A file with the rows of those closed windows in the range that have samples: at its ends, and
    of samples that have come since the deletion. None, if there are no such windows.
    """
    frontier = target.position(positions.frontier(tier.name))
    if frontier is None:
        return []
    width, expired = tier.width_ms, source.position(positions.expired())
    start = window_end(wanted.start_ms, width) - width
    start = start if expired is None else max(start, window_end(expired, width))
    end = min(window_end(wanted.end_ms, width), frontier)
    if start >= end:
        return []
    store, version = target.table.store, source.snapshot.version
    rows = source.snapshot.scan(Bounds(start, end, ids))
    made = algebra.to_table(roll_up(rows, tier, Window(start, end)), version)
    marks = ExpiredSeriesReader(store).marks(source.table.positions())
    keys = made.column("series_id").to_numpy(), made.column("window_end").to_numpy()
    made = made.filter(pa.array(~refused_windows(marks, *keys, width)))
    return [write_file(store, tier.table, made)] if made.num_rows else []


def _at_ends(
    store: Store,
    tier: Tier,
    wanted: Wanted,
    ids: Ids,
    at: Mapping[str, int],
    below: Mapping[str, int],
) -> list[tuple[Window, Ints]]:
    """The windows at the ends of the range, which may have other samples, as far as they are closed
    and can be computed: each with its keys, (series_id, window_end). at, below: positions of the
    tier's table and of the one below.
    """
    frontier = at.get(positions.frontier(tier.name))
    expired = below.get(positions.expired())
    marks = ExpiredSeriesReader(store).marks(below)
    found = []
    for end in sorted({window_end(ms, tier.width_ms) for ms in (wanted.start_ms, wanted.end_ms)}):
        window = Window(end - tier.width_ms, end)
        is_whole = wanted.start_ms <= window.start_ms + 1 and wanted.end_ms >= window.end_ms
        is_closed = frontier is not None and end <= frontier
        if is_whole or not is_closed or (expired is not None and window.start_ms < expired):
            continue
        keys = np.stack([ids, np.full(len(ids), end)], axis=1)
        keys = keys[~refused_windows(marks, keys[:, 0], keys[:, 1], tier.width_ms)]
        if len(keys):
            found.append((window, keys))
    return found


def _keys(table: Snapshot, window: Window, ids: Ids) -> Ints:
    """Series and time of the rows about some series in a range, sorted, each once."""
    bounds = Bounds(window.start_ms, window.end_ms, ids)
    rows = table.scan(bounds, ["series_id", table.time_column])
    return unique_keys(np.stack([rows.column(n).to_numpy() for n in range(2)], axis=1))


def _reach(wanted: Wanted, tier: Tier | None) -> Window:
    """The range of times of the rows that are about the samples. tier: None for samples."""
    if tier is None:
        return Window(wanted.start_ms - 1, wanted.end_ms)
    width = tier.width_ms
    return Window(window_end(wanted.start_ms, width) - 1, window_end(wanted.end_ms, width))
