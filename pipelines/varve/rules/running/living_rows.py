"""The rows of the table alerts that a process starts from: not all that ever happened."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.rules.running.changes import INACTIVE, NEEDED, RESOLVED, TABLE
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store

_NARROW: Final = ("rule_group", "fingerprint", "state", "evaluated_at", "review")


def living_rows(store: Store, since_ms: int) -> pa.Table:
    """Columns NEEDED: all rows of evaluations after since_ms, and of older ones those of alerts
    that had not ended by then, from their last beginning on. Alerts of other jobs have no group.

    Of older rows what fits a few numbers each is read, and the rest only where an alert lives.
    Raises OSError or NeedsOperator if the table cannot be read.
    """
    table = snapshot(store, TABLE)
    recent = table.scan(Bounds(start_ms=since_ms), NEEDED)
    return pa.concat_tables([_older(table, since_ms), recent])


def _older(table: Snapshot, until_ms: int) -> pa.Table:
    narrow = table.scan(Bounds(end_ms=until_ms), _NARROW)
    narrow = narrow.filter(pc.is_null(narrow["review"]))
    living = narrow.filter(pa.array(_is_living(narrow)))
    if not living.num_rows:
        return table.scan(Bounds(start_ms=until_ms, end_ms=until_ms), NEEDED)
    first_ms = pc.min(living["evaluated_at"]).as_py()
    columns = list(dict.fromkeys([*NEEDED, *_NARROW]))
    rows = table.scan(Bounds(start_ms=first_ms - 1, end_ms=until_ms), columns)
    rows = rows.filter(pc.is_null(rows["review"]))
    return rows.filter(pa.array(_is_living(rows))).select(NEEDED)


def _is_living(rows: pa.Table) -> npt.NDArray[np.bool_]:
    """Which rows are of an alert that none of the rows after them ends."""
    found = np.zeros(rows.num_rows, dtype=np.bool_)
    if not rows.num_rows:
        return found
    group, alert = (
        pc.fill_null(rows[name].combine_chunks(), "").dictionary_encode().indices.to_numpy()
        for name in ("rule_group", "fingerprint")
    )
    order = np.lexsort((rows["evaluated_at"].to_numpy(), alert, group))
    ended = pc.is_in(rows["state"], pa.array([RESOLVED, INACTIVE])).to_numpy()[order]
    changes = (np.diff(group[order]) != 0) | (np.diff(alert[order]) != 0)
    starts = np.concatenate([[0], np.flatnonzero(changes) + 1])
    places = np.arange(len(order))
    last_end = np.maximum.reduceat(np.where(ended, places, -1), starts)
    lengths = np.diff(np.concatenate([starts, [len(order)]]))
    found[order] = places > np.repeat(last_end, lengths)
    return found
