"""What a process starts from is what all rows of the table say, and is no more than it needs."""

from __future__ import annotations

import tempfile

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.schema import table_schema
from varve.rules.running.changes import NEEDED, alerts_of
from varve.rules.running.living_rows import living_rows
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

MINUTE_MS = 60_000
SINCE_MS = 100 * MINUTE_MS
NOW_MS = 200 * MINUTE_MS

changes = st.lists(
    st.tuples(
        st.sampled_from(["f;a", "f;b", None]),
        st.sampled_from("xyz"),
        st.sampled_from(["pending", "firing", "resolved", "inactive"]),
        st.sampled_from([None, None, None, "same", "different"]),
    ),
    max_size=40,
)


def row(number: int, change: tuple) -> dict:
    group, name, state, review = change
    at_ms = (number + 1) * 5 * MINUTE_MS
    return {
        "event_id": str(number),
        "fingerprint": f"{group} {name}",
        "rule": "A",
        "state": state,
        "labels": {"alertname": "A", "name": name},
        "annotations": {"number": str(number)},
        "value": float(number),
        "starts_at": at_ms - MINUTE_MS,
        "ends_at": at_ms if state == "resolved" else None,
        "evaluated_at": at_ms,
        "rule_group": group,
        "review": review,
    }


def written(root: str, found: list[tuple]) -> Store:
    """A store with the changes, in two files."""
    store = Store(root)
    create_tables(store, ("alerts",))
    rows = [row(number, change) for number, change in enumerate(found)]
    half = len(rows) // 2
    files = [
        write_file(store, "alerts", pa.Table.from_pylist(part, table_schema("alerts").arrow))
        for part in (rows[:half], rows[half:])
        if part
    ]
    commit(Table(store, "alerts"), files, transactions={"rules:0": Step(None, 1)})
    return store


@settings(max_examples=25)
@given(found=changes, until_ms=st.sampled_from([SINCE_MS, SINCE_MS + 30 * MINUTE_MS, NOW_MS]))
def test_alerts_are_those_of_all_rows(found, until_ms):
    with tempfile.TemporaryDirectory() as root:
        store = written(root, found)

        rows = living_rows(store, SINCE_MS)

        every = snapshot(store, "alerts").scan(Bounds(), NEEDED)
        known = alerts_of(rows, until_ms=until_ms, now_ms=NOW_MS)
        wanted = alerts_of(every, until_ms=until_ms, now_ms=NOW_MS)
    assert without_empty(known) == without_empty(wanted)


def without_empty(groups: dict) -> dict:
    return {group: alerts for group, alerts in groups.items() if alerts}


def test_what_ended_long_ago_is_not_read(tmp_path):
    ended = [("f;a", "x", state, None) for state in ("pending", "firing", "resolved")] * 5
    store = written(str(tmp_path), [*ended, ("f;a", "y", "firing", None)])

    rows = living_rows(store, SINCE_MS)

    assert rows["labels"].to_pylist() == [[("alertname", "A"), ("name", "y")]]
