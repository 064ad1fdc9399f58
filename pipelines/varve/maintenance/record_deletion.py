"""A deletion's part in the tables of histograms and exemplars, of which there are no tiers."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from varve.maintenance.row_removal import Gone, cut_file, rows_gone, within
from varve.model.errors import Conflict
from varve.model.record_rows import RECORD_TABLES, SAMPLES
from varve.model.window import Window
from varve.query.series_index import Ids
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, rewrite
from varve.storage.snapshot import Follower, snapshot
from varve.storage.store import Store
from varve.storage.table import Table, existing

_ATTEMPTS = 20

log = logging.getLogger(__name__)


def rows_meant(store: Store, window: Window, ids: Ids) -> Mapping[str, int]:
    """How many rows a deletion would take out, by table. Raises OSError."""
    found = {}
    for table in existing(store, RECORD_TABLES):
        seen = snapshot(store, table.name)
        files = seen.select(Bounds(window.start_ms, window.end_ms, ids))
        found[table.name] = sum(
            int(rows_gone(seen, file, _gone(window, ids)).sum()) for file in files
        )
    return found


def owing(store: Store) -> list[tuple[str, int]]:
    """Tables that the last deletion has not come to, each with the number of the last one that has.
    A table that has seen none owes that one at most: each is finished before the next.
    """
    last = Table(store, SAMPLES).position(positions.deletion())
    if last is None:
        return []
    found = []
    for table in existing(store, RECORD_TABLES):
        done = table.position(positions.deletion())
        if done is None or done < last:
            found.append((table.name, last - 1 if done is None else done))
    return found


def forget(store: Store, name: str, number: int, window: Window, ids: Ids) -> int:
    """Takes the rows out of a table; returns how many went. Raises Conflict if rivals are in the
    way all the time.
    """
    for _ in range(_ATTEMPTS):
        target = Follower(store, name)
        done = target.position(positions.deletion())
        if done is not None and done >= number:
            return 0  # a rival has finished it
        bounds = Bounds(window.start_ms, window.end_ms, ids)
        files = target.snapshot.select(bounds)
        found = [cut_file(target.snapshot, file, _gone(window, ids)) for file in files]
        cuts = [cut for cut in found if cut is not None]
        try:
            rewrite(
                target.table,
                [cut.rest for cut in cuts if cut.rest is not None],
                [cut.removal for cut in cuts],
                transactions={positions.deletion(): Step(done, number)},
                metadata={"deletion": {"number": number}},
            )
        except Conflict as err:
            log.info("%s: deletion %d starts over: %s", name, number, err)
            continue
        return sum(cut.rows_gone for cut in cuts)
    raise Conflict(f"{name}: {_ATTEMPTS} attempts to forget deleted rows met a rival")


def _gone(window: Window, ids: Ids) -> Gone:
    return lambda series, times: within(series, times, ids, window)
