import math
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.line import DAY_MS, Line
from tests.tables import WrittenTables
from varve.maintenance import compaction
from varve.model.identity import define
from varve.model.window import HOUR_MS, Window
from varve.query.sql import connect
from varve.rollups.verify import verify
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.layout import COMPACT
from varve.storage.snapshot import Follower, snapshot
from varve.storage.table import Table

BEGIN = 1_795_392_000_000
SERIES = sorted(define("m", {"k": str(n)}).series_id for n in range(4))


def compact(store, now_ms, tables=compaction.TABLES):
    """Everything that is due, until nothing is."""
    done = []
    for name in tables:
        while due := compaction.due_merges(snapshot(store, name), now_ms):
            for merge in due:
                done.append(compaction.merge_files(store, merge))
                assert done[-1] is not None
    return done


def stored(store):
    """(series_id, ts) -> value as the rule of copies has it: stale < NaN < numbers."""
    found = {}
    rows = snapshot(store, "samples")
    for row in rows.scan(Bounds()).to_pylist():
        key, value = (row["series_id"], row["ts"]), row["value"]
        rank = (value is not None, value is not None and not math.isnan(value), value or 0.0)
        if key not in found or rank > found[key][0]:
            found[key] = rank, repr(value)
    return {key: text for key, (_, text) in found.items()}


# Ingest stores 0.0 for -0.0.
numbers = st.floats(-10, 10).map(lambda value: value + 0.0)
values = st.one_of(st.none(), st.just(float("nan")), numbers, st.just(math.inf))
files = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 3 * HOUR_MS), values), min_size=1, max_size=6
)


@settings(max_examples=40)
@given(st.lists(files, min_size=1, max_size=40), st.integers(0, 6))
def test_samples_are_the_same_before_and_after(tmp_path_factory, batches, hours):
    store = (tables := WrittenTables(str(tmp_path_factory.mktemp("t")))).store
    for batch in batches:
        tables.put(
            {(SERIES[s], BEGIN + at): (SERIES[s], BEGIN + at, v) for s, at, v in batch}.values()
        )
    before = stored(store)

    compact(store, BEGIN + hours * HOUR_MS)

    assert stored(store) == before
    after = snapshot(store, "samples")
    for file in after.files:
        rows = after.scan(Bounds(), files=[file])
        keys = list(zip(rows["series_id"].to_pylist(), rows["ts"].to_pylist(), strict=True))
        assert len(batches) == 1 or keys == sorted(keys)


def test_an_hour_has_few_files_and_its_rows_are_written_few_times(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "FANOUT", 8)
    tables, written, each_ms = WrittenTables(str(tmp_path)), 0, HOUR_MS // 256
    for n in range(256):
        tables.put([(s, BEGIN + each_ms * n + 1, float(n)) for s in SERIES])
        if n % 8 == 7:
            reports = compact(tables.store, BEGIN + each_ms * n, ("samples",))
            written += sum(report.rows for report in reports)
            assert len(snapshot(tables.store, "samples").files) <= 8 * 3

    written += sum(r.rows for r in compact(tables.store, BEGIN + 4 * HOUR_MS, ("samples",)))

    files = snapshot(tables.store, "samples").files
    assert len(files) <= 2
    assert sum(f.rows for f in files) == 256 * len(SERIES)
    assert written <= 4 * 256 * len(SERIES)


def test_a_late_sample_does_not_write_its_whole_hour_again(tmp_path):
    tables = WrittenTables(str(tmp_path))
    tables.put([(SERIES[0], BEGIN + n + 1, 1.0) for n in range(1000)])
    tables.put([(SERIES[1], BEGIN + 5, 1.0)])

    assert compact(tables.store, BEGIN + DAY_MS) == []

    tables.put([(SERIES[2], BEGIN + 5, 1.0)])

    (report,) = compact(tables.store, BEGIN + DAY_MS)
    assert report.rows == 2


def test_who_follows_the_table_is_told_of_no_new_rows(tmp_path):
    tables = WrittenTables(str(tmp_path))
    for n in range(3):
        tables.put([(SERIES[0], BEGIN + n + 1, 1.0)])
    follower = Follower(tables.store, "samples")

    compact(tables.store, BEGIN + DAY_MS)

    (entry,) = follower.table.refresh()
    assert not entry.adds
    assert len(entry.replacements) == 1
    assert len(entry.removes) == 3


def test_a_file_that_a_rival_has_removed_is_not_brought_back(tmp_path):
    tables = WrittenTables(str(tmp_path))
    for n in range(3):
        tables.put([(SERIES[0], BEGIN + n + 1, float(n))])
    (merge,) = compaction.due_merges(snapshot(tables.store, "samples"), BEGIN + DAY_MS)
    table = Table(tables.store, "samples", files=True)
    gone = next(iter(table.live_files().values()))
    rewrite(table, [], [Removal(gone.path, gone.size, rows_disappear=True)])

    assert compaction.merge_files(tables.store, merge) is None
    assert len(snapshot(tables.store, "samples").files) == 2


def test_a_merge_holds_no_more_rows_than_it_may(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MAX_ROWS", 100)
    tables = WrittenTables(str(tmp_path))
    for n in range(20):
        tables.put([(SERIES[0], BEGIN + 30 * n + k + 1, 1.0) for k in range(30)])

    reports = compact(tables.store, BEGIN + DAY_MS)

    assert max(report.rows for report in reports) <= 100
    assert max(f.rows for f in snapshot(tables.store, "samples").files) <= 100
    assert sum(f.rows for f in snapshot(tables.store, "samples").files) == 600


@pytest.mark.parametrize("seed", range(3))
def test_rollups_stay_exact_while_tables_are_compacted(tmp_path, seed):
    rng = random.Random(seed)
    line = Line(str(tmp_path), BEGIN)
    for _ in range(60):
        now = line.clock.now_ms()
        samples = []
        for _ in range(rng.randint(1, 5)):
            late = rng.random() < 0.3
            at = now - (rng.randint(0, 5 * HOUR_MS) if late else rng.randint(0, 60_000))
            samples.append(
                f'{{"metric":"m","value":{rng.randint(0, 9)},"timestamp":{at},'
                f'"tags":{{"k":"{rng.randint(0, 3)}"}}}}'.encode()
            )
        line.ingest(*samples)
        if rng.random() < 0.3:
            line.roll_up()
        else:
            line.clock.advance(rng.randint(1, 10) * 60_000)
        if rng.random() < 0.3:
            compact(line.store, line.clock.now_ms())
    line.clock.advance(DAY_MS)
    line.ingest(b'{"metric":"m","value":1,"timestamp":%d}' % line.clock.now_ms())
    line.roll_up()
    compact(line.store, line.clock.now_ms() + 3 * DAY_MS)
    line.roll_up()

    report = verify(line.store, Window(BEGIN - DAY_MS, BEGIN + 4 * DAY_MS))
    assert report.rows["1m"] > 100
    assert not report.differences
    counted = connect(line.store, "raw").execute("SELECT count(*) FROM raw").fetchone()[0]
    assert counted == len(stored(line.store))


def test_a_file_of_a_closed_hour_is_laid_out_to_stay_once(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "WORTH_COMPACTING", 100)
    tables = WrittenTables(str(tmp_path))
    tables.put([(SERIES[0], BEGIN + n + 1, float(n)) for n in range(100)])
    tables.put([(SERIES[0], BEGIN + HOUR_MS + n + 1, float(n)) for n in range(99)])
    before = stored(tables.store)

    assert compact(tables.store, BEGIN + HOUR_MS) == []
    (report,) = compact(tables.store, BEGIN + DAY_MS)

    assert report.rows == 100
    laid_out = [COMPACT.wrote(f.path) for f in snapshot(tables.store, "samples").files]
    assert sorted(laid_out) == [False, True]
    assert stored(tables.store) == before
    assert compact(tables.store, BEGIN + 2 * DAY_MS) == []


def spread(tables, batches, rows, days, rng):
    """Batches of rows that are late by up to some days, as they come."""
    at = 0
    for _ in range(batches):
        late = set()
        while len(late) < rows:
            late.add((rng.choice(SERIES), BEGIN - rng.randrange(days * DAY_MS)))
        tables.put([(s, ts, float(at := at + 1)) for s, ts in sorted(late)])


def hours_of(file):
    low, high = ((file.minimum["ts"] - 1) // HOUR_MS, (file.maximum["ts"] - 1) // HOUR_MS)
    return high - low + 1


def test_late_rows_are_dealt_out_to_their_hours(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "WORTH_COMPACTING", 10)
    monkeypatch.setattr(compaction, "LATE_FANOUT", 4)
    tables = WrittenTables(str(tmp_path))
    now_ms = BEGIN + DAY_MS
    rows, written, wide = 30 * 40, 0, []
    rng = random.Random(4)
    for _ in range(30):
        spread(tables, 1, 40, 2, rng)
        written += sum(r.rows for r in compact(tables.store, now_ms, ("samples",)))
        wide.append(sum(hours_of(f) > 1 for f in snapshot(tables.store, "samples").files))
    kept = stored(tables.store)

    assert len(kept) == rows
    # Less than LATE_FANOUT of each size wait, and sizes are few.
    assert max(wide) <= 12
    in_hours = [f for f in snapshot(tables.store, "samples").files if hours_of(f) == 1]
    assert sum(f.rows for f in in_hours) > rows / 2
    assert all(COMPACT.wrote(f.path) for f in in_hours if f.rows >= 10)
    assert written <= 9 * rows


def test_a_large_file_of_many_hours_is_dealt_out_alone_and_then_left(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "WORTH_COMPACTING", 5)
    tables = WrittenTables(str(tmp_path))
    spread(tables, 1, 480, 2, random.Random(5))
    before = stored(tables.store)

    compact(tables.store, BEGIN + 5 * DAY_MS, ("samples",))

    files = snapshot(tables.store, "samples").files
    assert {hours_of(f) for f in files} == {1}
    assert len(files) <= 49
    assert stored(tables.store) == before
    assert compact(tables.store, BEGIN + 6 * DAY_MS, ("samples",)) == []


def test_late_rows_of_so_many_days_that_no_merge_holds_enough_are_dealt_out(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "MAX_ROWS", 200)
    monkeypatch.setattr(compaction, "LATE_FANOUT", 4)
    tables, rng = WrittenTables(str(tmp_path)), random.Random(7)
    wide = []
    for _ in range(40):
        spread(tables, 1, 30, 60, rng)
        compact(tables.store, BEGIN + DAY_MS, ("samples",))
        wide.append(sum(hours_of(f) > 24 for f in snapshot(tables.store, "samples").files))

    assert len(stored(tables.store)) == 40 * 30
    assert max(wide) <= 12, "three sizes of less than four files each"


def test_few_late_rows_wait(tmp_path):
    tables = WrittenTables(str(tmp_path))
    spread(tables, 3, 100, 2, random.Random(6))

    assert compact(tables.store, BEGIN + 5 * DAY_MS, ("samples",)) == []


def test_rows_of_an_hour_that_is_open_are_laid_out_as_they_arrive(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "WORTH_COMPACTING", 10)
    tables = WrittenTables(str(tmp_path))
    tables.put([(SERIES[0], BEGIN + n * HOUR_MS // 20 + 1, float(n)) for n in range(40)])

    compact(tables.store, BEGIN + 2 * HOUR_MS, ("samples",))

    files = snapshot(tables.store, "samples").files
    assert [hours_of(f) for f in files] == [1, 1]
    assert not any(COMPACT.wrote(f.path) for f in files)
