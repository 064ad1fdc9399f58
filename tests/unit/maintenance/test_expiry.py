import pytest

from tests.unit.maintenance.dying import Killed, deaths
from tests.year import BEGIN, DEBUG, SERIES, TABLES, Year, retention
from varve.maintenance import expiry
from varve.maintenance.compaction import Merge, merge_files
from varve.maintenance.expiry import Expiration
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, Window
from varve.rollups.task import attempt_task
from varve.rollups.verify import verify
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.snapshot import Follower, snapshot
from varve.storage.table import Table

KEPT = retention(4, 6, 8, 10, 11, debug=(1, 2.5, 4))
DEV = {s.series_id for s in SERIES if DEBUG.matches(s)}
OTHER = SERIES[0].series_id


def due(year, now_ms=None):
    job = Expiration(year.store, year.kept)
    at = year.clock.now_ms() if now_ms is None else now_ms
    return job.plan(at, {t: snapshot(year.store, t) for t in job.tables}).expiries


def rows(year, name):
    return snapshot(year.store, name).scan(Bounds())


def test_what_has_not_expired_is_as_if_nothing_had(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=1, each_ms=HOUR_MS // 2)
    gone = 0
    for day in range(14):
        year.day(parts=2)
        if day % 3 != 2:
            year.compact()
        gone += year.expire()

    compared = year.check()

    assert gone > 1_000
    assert all(compared.values()), compared
    for name in TABLES:
        there = snapshot(year.store, name)
        first = min(f.minimum[there.time_column] for f in there.files)
        # What is kept, and at most a day more until it is cut at the end of a day.
        assert first > year.clock.now_ms() - KEPT.kept_ms[name] - DAY_MS


@pytest.mark.parametrize("error", [Killed, OSError])
def test_an_expiry_that_dies_at_any_commit_is_finished_by_the_next_run(tmp_path, error):
    year = Year(str(tmp_path), KEPT, seed=2, each_ms=HOUR_MS)
    for _ in range(7):
        year.day(parts=1)
        year.compact()

    died = 0
    for _ in deaths(year.expire, error):
        died += 1
        # Whatever it has done so far, no rollup row changes that has not expired itself.
        year.roll_up()

    year.check()
    assert died > 10
    assert year.expire() == 0


def test_late_samples_of_expired_series_leave_their_rows_as_they_were(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=3, each_ms=HOUR_MS)
    for _ in range(3):
        year.day(parts=1)
    year.expire()
    before = {t: year.stored(t) for t in TABLES[1:]}
    at = BEGIN + DAY_MS + 90_000
    assert at < year.mark("samples", min(DEV))

    # An ingest that has not heard of the class yet.
    year.put({(series, at): 1_000.0 for series in (*DEV, OTHER)})
    year.roll_up()

    for table in TABLES[1:]:
        changed = {k for k, row in year.stored(table).items() if row != before[table].get(k)}
        assert {series for series, _ in changed} == {OTHER}
    notes = rows(year, "repairs").to_pylist()
    refused = [note for note in notes if note["status"] == "refused" and note["tier"] == "1m"]
    assert [note["windows"] for note in refused] == [len(DEV)]
    assert not verify(year.store, Window(BEGIN, year.clock.now_ms())).differences


def test_nothing_goes_that_is_not_rolled_up(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=4, each_ms=HOUR_MS)
    year.put({(OTHER, BEGIN + DAY_MS * n + 1): 1.0 for n in range(10)})
    year.clock.advance(10 * DAY_MS)
    assert due(year) == ()

    year.put({})  # complete up to now
    assert due(year) == ()

    for tiers in range(1, 5):
        year.roll_up(tiers)
        assert {d.table for d in due(year)} == set(TABLES[:tiers]) - {"rollup_1h"}


def test_samples_that_wait_for_their_repair_stay_until_it_is_done(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=5, each_ms=HOUR_MS)
    for _ in range(7):
        year.day(parts=1)
    until = {d.name: d.until_ms for d in due(year) if d.table == "samples"}
    late = BEGIN + 2 * DAY_MS + 5
    assert late <= until["all series"]

    year.put({(OTHER, late): 1.0})

    held = {d.name: d.until_ms for d in due(year) if d.table == "samples"}
    assert held == {"all series": BEGIN + 2 * DAY_MS, "debug": until["debug"]}
    year.roll_up()
    assert {d.name: d.until_ms for d in due(year) if d.table == "samples"} == until
    year.expire()
    year.check()


def test_a_clock_that_is_ahead_deletes_nothing(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=6, each_ms=HOUR_MS)
    for _ in range(6):
        year.day(parts=1)

    assert due(year, year.clock.now_ms() + 3_650 * DAY_MS) == due(year)


def test_followers_are_told_that_rows_are_gone_and_of_no_new_ones(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=7, each_ms=HOUR_MS)
    for _ in range(7):
        year.day(parts=1)
    year.compact()
    follower = Follower(year.store, "samples")
    before = follower.snapshot.files

    gone = year.expire()

    fresh = follower.table.refresh()
    assert gone
    assert not any(entry.adds for entry in fresh)
    follower = Follower(year.store, "samples")
    lost = sum(f.rows for f in before) - sum(f.rows for f in follower.snapshot.files)
    assert 0 < lost <= gone


def test_a_rival_is_left_alone_and_the_next_run_does_the_rest(tmp_path, monkeypatch):
    year = Year(str(tmp_path), KEPT, seed=8, each_ms=HOUR_MS)
    for _ in range(7):
        year.day(parts=1)
    job, work = Expiration(year.store, year.kept), due(year)
    looked = expiry.cut_file

    def rival(seen, file, gone):
        monkeypatch.setattr(expiry, "cut_file", looked)
        cut = looked(seen, file, gone)
        assert merge_files(year.store, Merge(seen.table, (None, 0), (file,)))
        return cut

    monkeypatch.setattr(expiry, "cut_file", rival)
    results = [job.expire(d) for d in work]

    assert not all(done.is_done for done in results)
    year.expire()
    year.check()


def test_marks_say_what_may_have_gone(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=9, each_ms=HOUR_MS)
    for _ in range(7):
        year.day(parts=1)
    year.expire()

    at = Table(year.store, "samples").positions()

    now = BEGIN + 7 * DAY_MS
    assert at[positions.expired()] == now - 4 * DAY_MS
    # Less than two days are kept: cut at the end of an hour.
    assert at[positions.expired(DEBUG.text)] == at[positions.dropped(DEBUG.text)] == now - DAY_MS


def test_a_file_that_is_lost_holds_up_expiry_for_a_while_and_no_more(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=10, each_ms=HOUR_MS)
    for _ in range(5):
        year.day(parts=1)
    ends = {(OTHER, BEGIN + n * DAY_MS - 5): 1.0 for n in (2, 4)}
    year.put(ends)
    lost = snapshot(year.store, "samples").files[-1]
    (tmp_path / "samples" / lost.path).unlink()
    marks = []
    for _ in range(4):
        year.clock.advance(DAY_MS)
        year.put({})
        for worker in year.workers:
            while (work := worker.plan_close()) is not None:
                outcomes = [attempt_task(task) for task in work.tasks]
                files = [o.file for o in outcomes if o.file is not None]
                gaps = [gap for o in outcomes for gap in o.gaps]
                worker.commit(work, files, gaps=gaps, unreadable=["lost"] if gaps else [])
        year.expire()
        marks.append(year.mark("samples", OTHER))

    # What is due goes a day later than it would without the lost file.
    assert marks == [BEGIN + n * DAY_MS for n in (1, 2, 3, 4)]
    assert lost.path not in {f.path for f in snapshot(year.store, "samples").files}


def test_rows_of_a_tier_that_lags_expire_once_they_are_there(tmp_path, monkeypatch):
    kept = retention(6, 8, 10, 12, 13, pods=(1.1, 1.2, 1.3, 1.4, 1.5))
    series = [*SERIES[:1], define("pod_calls", {"pod": "1"})]
    year = Year(str(tmp_path), kept, seed=11, each_ms=6 * HOUR_MS, series=series)
    for _ in range(2):
        year.day(parts=1)
    with monkeypatch.context() as lagging:
        lagging.setattr(year, "roll_up", lambda: Year.roll_up(year, 3))
        for _ in range(4):
            year.day(parts=1)
    year.expire()

    year.roll_up()
    year.expire()

    year.check()
    assert year.mark("rollup_1d", series[1].series_id) > BEGIN


def test_rows_of_a_class_that_a_tier_is_yet_to_repair_expire_once_they_are_there(tmp_path):
    """Its mark would pass them, and nobody would look there again."""
    kept = retention(6, 8, 10, 12, 13, pods=(4, 4, 4, 4, 1.5))
    pod = define("pod_calls", {"pod": "1"})
    year = Year(str(tmp_path), kept, seed=11, each_ms=6 * HOUR_MS, series=[*SERIES[:1], pod])
    for _ in range(3):
        year.day(parts=1)
    year.put({(pod.series_id, BEGIN + DAY_MS // 2 + 1): 7.0})
    year.roll_up(3)
    year.clock.advance(HOUR_MS)
    year.expire()
    assert year.mark("rollup_1d", pod.series_id) < BEGIN + DAY_MS  # the window waits

    year.roll_up()
    year.expire()

    year.check()
    assert year.mark("rollup_1d", pod.series_id) >= BEGIN + DAY_MS
