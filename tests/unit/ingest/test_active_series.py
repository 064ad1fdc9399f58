from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.plans import open_registry
from tests.tables import WrittenTables
from tests.unit.ingest.messages import NOW_MS
from varve.ingest.active_series import census
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_registry import Full, SeriesRegistry
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

DAY_MS = 24 * HOUR_MS
START_MS = NOW_MS // DAY_MS * DAY_MS
SERIES = [define(f"metric_{n % 3}", {"n": str(n)}) for n in range(9)]


@pytest.fixture
def tables(tmp_path):
    return WrittenTables(str(tmp_path / "tables"))


def sample(series, at_ms):
    return series.series_id, at_ms, 1.0


def close(store, windows, frontier_ms):
    """Rows (series_id, window_end) of rollup_1h: the columns that matter here, and zeros."""
    schema, table = table_schema("rollup_1h").arrow, Table(store, "rollup_1h")
    zeros = {f.name: pa.scalar(0).cast(f.type) for f in schema if not pa.types.is_nested(f.type)}
    columns = {name: pa.repeat(zero, len(windows)) for name, zero in zeros.items()}
    columns |= {f.name: pa.nulls(len(windows), f.type) for f in schema if f.name not in zeros}
    columns["series_id"] = pa.array([w[0] for w in windows], pa.int64())
    columns["window_end"] = pa.array([w[1] for w in windows], pa.int64())
    rows = pa.table([columns[name] for name in schema.names], schema.names)
    files = [write_file(store, "rollup_1h", rows)] if windows else []
    step = Step(table.position("frontier:1h"), frontier_ms)
    commit(table, files, transactions={"frontier:1h": step})


def test_without_a_closed_hour_every_series_counts(tables):
    tables.define(SERIES, seen_ms=0)

    counted = census(tables.store, DAY_MS)

    assert (counted.since_ms, counted.registered) == (None, 9)
    assert counted.active == {"metric_0": 3, "metric_1": 3, "metric_2": 3}


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(range(9)), st.integers(1, 60)), min_size=1, max_size=30),
    st.lists(st.integers(0, 59), min_size=9, max_size=9),
    st.integers(1, 30),
    st.booleans(),
)
def test_active_are_those_with_a_closed_hour_of_late_or_registered_of_late(
    tmp_path_factory, seen, registered, hours, in_pieces
):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    for series, hour in zip(SERIES, registered, strict=True):
        tables.define([series], START_MS + hour * HOUR_MS)
    rows = sorted((SERIES[n].series_id, START_MS + hour * HOUR_MS) for n, hour in seen)
    for piece in [rows[::2], rows[1::2]] if in_pieces else [rows]:
        close(tables.store, piece, START_MS + 60 * HOUR_MS)

    counted = census(tables.store, hours * HOUR_MS)

    since = 60 - hours
    alive = {n for n, hour in seen if hour > since}
    alive |= {n for n, hour in enumerate(registered) if hour > since}
    expected = [f"metric_{n % 3}" for n in alive]
    assert counted.since_ms == START_MS + since * HOUR_MS
    assert counted.active == {m: expected.count(m) for m in set(expected)}


def test_series_that_ended_make_room_and_no_others(tables):
    clock, limits = ManualClock(START_MS), Limits(default=MetricLimits(series=3))
    registry = open_registry(tables.store, clock=clock)
    registry.register([(s, START_MS) for s in SERIES], limits)
    later = [(define("metric_0", {"later": str(n)}), START_MS) for n in range(9)]
    assert set(registry.register(later, limits).values()) == {Reason.CARDINALITY_LIMIT}
    ends = START_MS + 30 * HOUR_MS
    samples = [sample(SERIES[0], ends), *(sample(s, START_MS + HOUR_MS) for s in SERIES)]
    tables.put(samples, complete_ms=ends)
    tables.roll_up()
    clock.advance(30 * HOUR_MS)

    registry.offer(census(tables.store, DAY_MS))

    assert registry.full(limits) == Full()
    refused = registry.register(later, limits)
    assert len(refused) == 7
    assert registry.series_of["metric_0"] == 3
    assert open_registry(tables.store, clock=clock).series_of == registry.series_of


def test_while_rollups_stand_still_no_series_makes_room(tables):
    clock, limits = ManualClock(START_MS), Limits(series=9)
    registry = open_registry(tables.store, clock=clock)
    registry.register([(s, START_MS) for s in SERIES], limits)
    tables.put([sample(s, START_MS + HOUR_MS) for s in SERIES], complete_ms=START_MS + HOUR_MS)
    tables.roll_up()
    clock.advance(90 * DAY_MS)

    registry.offer(census(tables.store, DAY_MS))

    assert registry.series_of.total() == 9
    assert registry.full(limits) == Full(all=True)


def test_a_census_taken_while_series_are_registered_loses_none(tables):
    registry, rival = open_registry(tables.store), open_registry(tables.store)
    registry.register([(SERIES[0], 0)])
    early = census(tables.store, DAY_MS)
    rival.register([(SERIES[3], 0)])
    registry.register([(SERIES[6], 0)])
    late = census(tables.store, DAY_MS)
    rival.offer(late)  # ahead of what the rival has read of the log

    registry.offer(early)

    assert (registry.full(Limits()), registry.series_of) == (Full(), {"metric_0": 3})
    rival.register([(SERIES[1], 0)])
    assert rival.series_of == {"metric_0": 3, "metric_1": 1}


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_a_file_of_hours_that_cannot_be_read_keeps_no_registry_from_opening(
    tables, damage, caplog, tmp_path
):
    tables.define(SERIES, seen_ms=0)
    close(tables.store, [(SERIES[0].series_id, START_MS)], START_MS)
    close(tables.store, [(SERIES[1].series_id, START_MS)], START_MS)
    lost = Path(tables.store.uri("rollup_1h")) / snapshot(tables.store, "rollup_1h").files[0].path
    if damage == "missing":
        lost.unlink()
    else:
        lost.write_bytes(lost.read_bytes()[:100])

    registry = SeriesRegistry(tables.store, str(tmp_path / "scratch"), DAY_MS)

    assert registry.series_of == {SERIES[1].metric: 1}
    assert f"rollup_1h/{lost.name}" in caplog.text
