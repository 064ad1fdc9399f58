"""Histograms and exemplars take the road of samples through a task, into tables of their own."""

import pyarrow as pa
import pytest

from tests.plans import task_plan
from tests.unit.ingest.messages import NOW_MS, as_arrow
from varve.ingest import arrow_codec
from varve.ingest.reject_reasons import Reason
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.table import Table, create_tables

HOUR_MS = 3_600_000
ATTIC, CELLAR = define("latency", {"room": "attic"}), define("latency", {"room": "cellar"})
SIDE = {"offsets": [-1, 2], "lengths": [1, 2], "counts": [1.0, 2.0, 3.0]}
NO_SIDE = {"offsets": [], "lengths": [], "counts": []}
HISTOGRAM = {
    "schema": 3,
    "count": 6.0,
    "sum": 1.5,
    "zero_threshold": 0.001,
    "zero_count": 0.0,
    "positive": SIDE,
    "negative": NO_SIDE,
    "custom_values": [],
    "reset_hint": "unknown",
}
STALE = dict.fromkeys(HISTOGRAM)
CUSTOM = HISTOGRAM | {"schema": -53, "custom_values": [1.0, 2.5]}


@pytest.fixture
def store(store):
    create_tables(store, ("histograms", "exemplars"))
    return store


def message(table, *rows, defined=True):
    """rows: series, ts, the other columns."""
    found = [{"series_id": d.series_id, "check": d.check, "ts": ts} | row for d, ts, row in rows]
    columns = pa.Table.from_pylist(found, schema=arrow_codec.wire_schema(table))
    return arrow_codec.write(columns, dict.fromkeys(d for d, _, _ in rows) if defined else ())


def run(store, table, *values):
    plan = task_plan(store, now_ms=NOW_MS, query=table)
    messages = [Message(f"raw-{table}", 0, n, NOW_MS, value) for n, value in enumerate(values)]
    (outcome,) = run_task(messages, plan)
    assert outcome.received == outcome.stored + outcome.merged + sum(outcome.rejected.values())
    return outcome


def rows(store, table, files):
    commit(Table(store, table), files, transactions={"test": Step(None, 1)})
    return snapshot(store, table).scan(Bounds()).to_pylist()


def details(store, outcome):
    return [row["detail"] for row in rows(store, "quarantine", outcome.quarantine)]


def test_histograms_are_stored_sorted_and_copies_merged(store):
    greater = HISTOGRAM | {"count": 7.0, "zero_count": 1.0}
    outcome = run(
        store,
        "histograms",
        message("histograms", (CELLAR, NOW_MS, HISTOGRAM), (ATTIC, NOW_MS + 1, CUSTOM)),
        message("histograms", (CELLAR, NOW_MS, greater), (CELLAR, NOW_MS - 1, STALE)),
    )

    stored = rows(store, "histograms", outcome.files)
    expected = [(CELLAR, NOW_MS - 1, STALE), (CELLAR, NOW_MS, greater), (ATTIC, NOW_MS + 1, CUSTOM)]
    assert (outcome.stored, outcome.merged) == (3, 1)
    assert stored == sorted(
        ({"series_id": d.series_id, "ts": ts} | row for d, ts, row in expected),
        key=lambda row: (row["series_id"], row["ts"]),
    )
    assert {d for d, _ in outcome.definitions} == {ATTIC, CELLAR}
    assert {f.table for f in outcome.files} == {"histograms"}


def test_exemplars_of_one_time_all_stay(store):
    one = {"value": 1.0, "labels": [("trace_id", "a")]}
    other = {"value": 1.0, "labels": [("trace_id", "b")]}
    outcome = run(
        store,
        "exemplars",
        message("exemplars", *((ATTIC, NOW_MS, row) for row in (one, other, one))),
    )

    assert (outcome.stored, outcome.merged) == (2, 1)
    assert [row["labels"] for row in rows(store, "exemplars", outcome.files)] == [
        [("trace_id", "a")],
        [("trace_id", "b")],
    ]


def test_old_rows_go_to_a_file_of_their_own_and_too_old_ones_into_quarantine(store):
    times = [NOW_MS, NOW_MS - 3 * HOUR_MS, NOW_MS - 1_000 * HOUR_MS, NOW_MS + HOUR_MS]
    outcome = run(
        store, "histograms", message("histograms", *((ATTIC, ts, HISTOGRAM) for ts in times))
    )

    assert [f.rows for f in outcome.files] == [1, 1]
    assert outcome.rejected == {Reason.TOO_OLD: 1, Reason.TOO_FAR_IN_FUTURE: 1}
    again = [
        arrow_codec.read(row["value"]) for row in rows(store, "quarantine", outcome.quarantine)
    ]
    assert {block.table for block in again} == {"histograms"}
    assert sorted(int(block.ts[0]) for block in again) == sorted(times[2:])
    assert [block.rest.to_pylist() for block in again] == [[HISTOGRAM], [HISTOGRAM]]
    assert [list(block.definitions) for block in again] == [[ATTIC], [ATTIC]]


def test_rows_of_a_series_that_nobody_has_defined_wait_in_quarantine(store):
    outcome = run(
        store, "histograms", message("histograms", (ATTIC, NOW_MS, HISTOGRAM), defined=False)
    )

    assert outcome.rejected == {Reason.UNKNOWN_SERIES: 1}
    assert outcome.undefined == [(ATTIC.series_id, ATTIC.check)]


@pytest.mark.parametrize("table", ["samples", "exemplars"])
def test_rows_of_another_table_are_on_the_wrong_topic(store, table):
    wrong = (
        as_arrow([(ATTIC, NOW_MS, 1.0)])
        if table == "samples"
        else message("exemplars", (ATTIC, NOW_MS, {"value": 1.0, "labels": []}))
    )
    outcome = run(store, "histograms", wrong)

    assert outcome.rejected == {Reason.MALFORMED: 1}
    assert "the wrong topic" in details(store, outcome)[0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"schema": 9}, "schema 9"),
        ({"count": None}, "count is null"),
        ({"count": -1.0}, "count is negative"),
        ({"positive": SIDE | {"lengths": [1, 1]}}, "spans of 2 buckets, and 3 counts"),
        ({"positive": SIDE | {"lengths": [-1, 4]}}, "spans overlap"),
        ({"positive": SIDE | {"offsets": [1, -1]}}, "spans overlap"),
        ({"positive": SIDE | {"offsets": [1]}}, "1 offsets and 2 lengths"),
        ({"negative": SIDE | {"counts": [1.0, -2.0, 3.0]}}, "a count is negative"),
        ({"negative": {"offsets": None, "lengths": [], "counts": []}}, "a list is null"),
        ({"positive": SIDE | {"counts": [1.0, None, 3.0]}}, "a number is null"),
        ({"custom_values": [1.0]}, "custom_values belong to schema -53"),
        ({"schema": -53, "custom_values": [2.0, 1.0]}, "do not ascend"),
        ({"reset_hint": "perhaps"}, "'perhaps' is none of gauge, not_reset, reset, unknown"),
        ({"schema": None}, "count of a staleness marker is not null"),
    ],
)
def test_what_is_no_histogram_is_refused_with_the_reason(store, change, what):
    outcome = run(store, "histograms", message("histograms", (ATTIC, NOW_MS, HISTOGRAM | change)))

    assert outcome.rejected == {Reason.MALFORMED: 1}
    assert what in details(store, outcome)[0]


@pytest.mark.parametrize("cut", range(0, 900, 61))
def test_a_cut_message_is_refused_whole(store, cut):
    whole = message("histograms", (ATTIC, NOW_MS, HISTOGRAM))
    outcome = run(store, "histograms", whole[: len(whole) - 1 - cut])

    assert outcome.stored == 0
    assert sum(outcome.rejected.values()) == 1


def test_the_wire_has_the_columns_of_the_table_and_the_check():
    for table in ("histograms", "exemplars"):
        names = table_schema(table).names()
        assert arrow_codec.wire_schema(table).names == [names[0], "check", *names[1:]]
