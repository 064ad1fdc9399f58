"""What a stretch of old samples is in each table: the finest that still keeps its time has the
rows, and the tiers above make theirs of these as they do of any others that are late.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from varve.model import copies
from varve.model.staleness import to_column
from varve.model.window import MINUTE_MS, TIERS, Tier
from varve.rollups import algebra, kernel, window_keys
from varve.rollups.algebra import NEVER, Floats, Ints
from varve.rollups.differing_rows import differing
from varve.rollups.expired_series import ExpiredSeries


@dataclass(frozen=True)
class Marks:
    """Up to when rows of a table may have expired, Unix ms: of all series, and of some further."""

    everyone: int
    classes: Sequence[ExpiredSeries] = ()

    def of(self, series_ids: Ints) -> Ints:
        """The mark of each series; the shape of series_ids."""
        found = np.full(len(series_ids), self.everyone, np.int64)
        for some in self.classes:
            mine = np.isin(series_ids, some.series_ids)
            found[mine] = np.maximum(found[mine], some.until_ms)
        return found


@dataclass(frozen=True, slots=True)
class Combined:
    """Rows of a tier to be written. refused: windows whose stored row was made of other samples of
    the same stretch of time, and stays; shape (n, 2), series and end.
    """

    rows: pa.Table
    refused: Ints
    refused_samples: int


def rows_by_table(
    series_ids: Ints, ts: Ints, values: Floats, marks: Mapping[str, Marks]
) -> Iterator[tuple[str, pa.Table]]:
    """The rows to write of samples in any order, table by table, the finest first; rows of rollups
    have the revision 0.

    Samples after the mark of the table samples are theirs. A window that begins before the mark of
    the table below is not made by its tier, so its row is made here, if it ends after the tier's
    own mark. samples: all that there are of each window. marks: of samples and all tiers.
    """
    ids, times, found = copies.merge(series_ids, ts, values)
    kept = times > marks["samples"].of(ids)
    if kept.any():
        columns = {"series_id": ids[kept], "ts": times[kept], "value": to_column(found[kept])}
        yield "samples", pa.table(columns)
    rows = kernel.aggregate(ids, times, found, MINUTE_MS)
    for tier in TIERS:
        if tier.source != "samples":
            rows = kernel.merge(rows, np.arange(len(rows)), tier.width_ms)
        begins_before = rows.window_end - tier.width_ms < marks[tier.source].of(rows.series_id)
        kept = begins_before & (rows.window_end > marks[tier.table].of(rows.series_id))
        if kept.any():
            yield tier.table, algebra.to_table(rows, 0).filter(pa.array(kept))


def expired_samples(series_ids: Ints, ts: Ints, marks: Mapping[str, Marks]) -> int:
    """How many samples no table keeps any more."""
    width_ms, last = TIERS[-1].width_ms, marks[TIERS[-1].table]
    ends = -(-ts // width_ms) * width_ms
    gone = (ends <= last.of(series_ids)) & (ts <= marks["samples"].of(series_ids))
    for tier in TIERS[:-1]:
        ends = -(-ts // tier.width_ms) * tier.width_ms
        gone &= ends <= marks[tier.table].of(series_ids)
    return int(gone.sum())


def combined(tier: Tier, stored: pa.Table, new: pa.Table, revision: int) -> Combined:
    """What is to be written of new rows beside those that stand: windows that have none; those
    whose samples all lie before or all after the samples of the row that stands, as one row. A row
    that stands already, equal to the bit, is not written again.

    stored, new: rows of the tier's table; `new` sorted by (series_id, window_end). revision: of
    the rows written, unless a stored one that gives way has a greater one.
    """
    if not stored.num_rows:
        return Combined(_at_revision(new, revision), np.empty((0, 2), np.int64), 0)
    newest = window_keys.newest_revisions(
        *(
            np.ascontiguousarray(stored.column(name).to_numpy())
            for name in ("series_id", "window_end", "revision")
        )
    )
    stored = stored.take(newest)
    there, mine = _keys(stored), _keys(new)
    is_known = window_keys.isin(mine[:, 0].copy(), mine[:, 1].copy(), there)
    gives_way = window_keys.isin(there[:, 0].copy(), there[:, 1].copy(), mine)
    known, before = new.filter(pa.array(is_known)), stored.filter(pa.array(gives_way))
    if not known.num_rows:
        return Combined(_at_revision(new, revision), np.empty((0, 2), np.int64), 0)
    left, right = algebra.from_table(before), algebra.from_table(known)
    every = np.arange(len(left))
    is_other = np.zeros(len(left), np.bool_)
    for differs in differing(left, right, every, every).values():
        is_other |= differs
    is_earlier = (left.last_ts < right.first_ts) | (left.last_ts == NEVER)
    is_later = (right.last_ts < left.first_ts) | (right.last_ts == NEVER)
    joined = np.flatnonzero(is_other & (is_earlier | is_later))
    refused = np.flatnonzero(is_other & ~is_earlier & ~is_later)
    pairs = np.stack([joined, joined + len(left)], axis=1)
    pairs[~is_earlier[joined]] = pairs[~is_earlier[joined]][:, ::-1]
    both = algebra.from_table(pa.concat_tables([before, known.cast(before.schema)]))
    merged = algebra.to_table(kernel.merge(both, pairs.ravel(), tier.width_ms), 0)
    revision = max(revision, int(before.column("revision").to_numpy().max()) + 1)
    fresh = new.filter(pa.array(~is_known))
    rows = pa.concat_tables([fresh, merged.cast(fresh.schema)])
    rows = rows.sort_by([("series_id", "ascending"), ("window_end", "ascending")])
    keys = np.stack([right.series_id[refused], right.window_end[refused]], axis=1)
    return Combined(_at_revision(rows, revision), keys, int(right.count[refused].sum()))


def _at_revision(rows: pa.Table, revision: int) -> pa.Table:
    place = rows.schema.get_field_index("revision")
    return rows.set_column(
        place, rows.schema.field(place), pa.array(np.full(rows.num_rows, revision, np.int64))
    )


def _keys(rows: pa.Table) -> Ints:
    ids, ends = (rows.column(name).to_numpy() for name in ("series_id", "window_end"))
    return np.stack([ids, ends], axis=1)
