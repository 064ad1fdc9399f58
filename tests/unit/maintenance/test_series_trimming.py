"""Definitions of series go once no table has a row of them, and no sooner."""

from dataclasses import replace

import numpy as np
import pytest

from tests.churn import Churn
from tests.unit.maintenance.dying import Killed, dying
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesIdIndex
from varve.maintenance import backup, series_rows, series_trimming
from varve.maintenance.backup import take_backup
from varve.maintenance.restore import restore_backup
from varve.maintenance.series_rows import HOLDERS
from varve.maintenance.series_trimming import SERIES, Trimming
from varve.model.errors import TemporaryError
from varve.model.identity import define
from varve.model.schema import TABLES, table_schema
from varve.model.window import DAY_MS
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.layout import CONDEMNED
from varve.storage.log_expiry import expire_log
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table

LIVE, GONE, BACK = (define("up", {"pod": name}) for name in ("live", "gone", "back"))


@pytest.fixture
def churn(tmp_path):
    """GONE and BACK have had samples that are no longer there; LIVE has some."""
    churn = Churn(tmp_path)
    churn.drivers[0].send([LIVE, GONE, BACK])
    churn.remove("samples", [GONE.series_id, BACK.series_id])
    churn.pass_time(3 * DAY_MS)
    return churn


def defined(churn):
    return churn.ids_in("series")


def ids(*series):
    return {s.series_id for s in series}


def status(index, *series):
    index.advance()
    found = index.status(
        np.array([s.series_id for s in series], np.int64),
        np.array([s.check for s in series], np.int32),
    )
    return found.tolist()


def condemned(churn):
    return [f for f in snapshot(churn.store, SERIES).files if CONDEMNED.wrote(f.path)]


def until_fenced(churn, monkeypatch):
    """Trims up to before the definitions are looked at for the last time."""

    class Stopped(BaseException):
        pass

    def stop(*_):
        raise Stopped

    with monkeypatch.context() as patch:
        patch.setattr(Trimming, "_remove", stop)
        with pytest.raises(Stopped):
            churn.trim()


def test_series_without_a_row_are_trimmed_and_the_others_stay(churn):
    done = churn.trim()

    assert (done.series, done.returned, done.is_done) == (2, 0, True)
    assert defined(churn) == ids(LIVE)
    assert churn.trim().series == 0


def test_nothing_is_trimmed_for_too_few(churn):
    job = Trimming(churn.store, least_share=0.7)

    due = job.plan(churn.clock.now_ms(), {SERIES: snapshot(churn.store, SERIES)})

    assert due.is_empty
    assert list(due.lines()) == ["series: too few of 3 have no row in any table"]


def test_a_series_that_was_registered_lately_stays(tmp_path):
    churn = Churn(tmp_path)
    churn.drivers[0].send([GONE])
    churn.remove("samples", [GONE.series_id])

    assert churn.trim().series == 0


def test_nothing_is_trimmed_while_rollups_stand_still(churn):
    job = Trimming(churn.store, least_share=0.0)
    year_later = churn.clock.now_ms() + 365 * DAY_MS
    churn.drivers[0].send([define("up", {"pod": "new"})])
    churn.remove("samples", [define("up", {"pod": "new"}).series_id])

    job.run(job.plan(year_later, {SERIES: snapshot(churn.store, SERIES)}))

    assert defined(churn) == ids(LIVE, define("up", {"pod": "new"}))


def test_every_table_with_rows_of_series_is_looked_at():
    about = {name for name in TABLES if "series_id" in table_schema(name).names()}

    assert set(HOLDERS) == about - {"series", "forecast_fits"}


def test_a_row_in_any_table_keeps_the_definition(churn):
    kept = {table: define("kept", {"by": table}) for table in HOLDERS}
    churn.drivers[0].send(list(kept.values()))
    churn.remove("samples", ids(*kept.values()))
    for table, series in kept.items():
        churn.add(table, [series.series_id])
    churn.pass_time(3 * DAY_MS)

    assert churn.trim().series == 2
    assert defined(churn) == ids(LIVE, *kept.values())


def test_a_row_in_a_colder_root_keeps_the_definition(churn, tmp_path):
    cold = Churn(tmp_path / "cold")
    cold.add("rollup_1d", [GONE.series_id])
    table = Table(churn.store, "rollup_1d")
    for handle, name in ((Table(cold.store, "rollup_1d"), "arrived"), (table, "moved")):
        assert handle.write_next("WRITE", [{"txn": {"appId": name, "version": 0}}])
    churn.store = Store(churn.store.root, {}, cold.store)

    assert churn.trim().series == 1
    assert defined(churn) == ids(LIVE, GONE)


def test_what_is_rolled_up_and_expires_while_it_is_looked_for_is_found(churn, monkeypatch):
    churn.add("rollup_1m", [GONE.series_id])
    looked = []

    def look(store, name):
        found = snapshot(store, name)
        looked.append(name)
        if name == "rollup_5m" and looked.count(name) == 1:
            # Its rows were in the table that was looked at before, and now they are above.
            churn.roll_up("rollup_1m", "rollup_1h")
        return found

    monkeypatch.setattr(series_rows, "snapshot", look)

    churn.trim()

    churn.check()
    assert GONE.series_id in defined(churn)


def test_a_driver_defines_anew_what_comes_back_after_it_was_trimmed(churn):
    churn.trim()

    churn.drivers[1].send([BACK])

    churn.check()
    assert defined(churn) == ids(LIVE, BACK)


def test_what_comes_back_between_is_defined_anew_and_stays(churn, monkeypatch):
    until_fenced(churn, monkeypatch)
    assert status(SeriesIdIndex(churn.store), LIVE, GONE, BACK) == [KNOWN, UNKNOWN, UNKNOWN]
    churn.drivers[1].send([BACK])

    done = churn.trim()

    assert (done.series, done.returned) == (1, 1)
    assert defined(churn) == ids(LIVE, BACK)
    rows = snapshot(churn.store, SERIES).scan(Bounds(), ["series_id"])
    assert rows["series_id"].to_pylist().count(BACK.series_id) == 1
    churn.check()


def test_a_batch_that_was_judged_before_cannot_be_committed_after(churn, monkeypatch):
    driver = churn.drivers[1]
    driver.judge([BACK])
    until_fenced(churn, monkeypatch)

    assert not driver.commit()  # judged again: the series is defined anew
    assert driver.commit()

    assert churn.trim().series == 1
    churn.check()


def test_a_batch_that_is_committed_before_the_fence_spares_its_series(churn, monkeypatch):
    driver = churn.drivers[1]
    driver.judge([BACK])
    fence = series_trimming._fence

    def late(table):
        if table.name == "samples":
            assert driver.commit()
        fence(table)

    monkeypatch.setattr(series_trimming, "_fence", late)

    done = churn.trim()

    assert (done.series, done.returned) == (1, 1)
    assert status(SeriesIdIndex(churn.store), BACK) == [KNOWN]
    churn.check()


def test_a_condemned_series_that_is_spared_is_known_again_to_a_driver_that_runs(churn, monkeypatch):
    index = SeriesIdIndex(churn.store)
    until_fenced(churn, monkeypatch)
    assert status(index, GONE, BACK) == [UNKNOWN, UNKNOWN]
    churn.add("rollup_1h", [BACK.series_id])

    churn.trim()

    assert status(index, LIVE, GONE, BACK) == [KNOWN, UNKNOWN, KNOWN]


def test_the_id_of_a_condemned_series_is_not_free_for_another_one(churn, monkeypatch):
    rival = replace(define("up", {"pod": "rival"}), series_id=GONE.series_id)
    registry = churn.drivers[0].registry
    until_fenced(churn, monkeypatch)

    refused = registry.register([(rival, 0)])

    assert refused == {(rival.series_id, rival.check): Reason.ID_COLLISION}
    churn.trim()
    assert registry.register([(rival, 0)]) == {}
    assert status(registry.index, rival, GONE) == [KNOWN, CONTESTED]


COMMITS = 1 + 7 + 1
"""Of a run: what condemns, a fence for each table that rows come into, what removes."""


def test_a_run_that_dies_around_any_commit_is_finished_by_the_next(churn):
    for number in (0, 1, 4, COMMITS - 2, COMMITS - 1):
        for written in (False, True):
            fresh = define("up", {"pod": f"{number} {written}"})
            churn.drivers[0].send([fresh])
            churn.remove("samples", [fresh.series_id])
            churn.pass_time(3 * DAY_MS)
            with pytest.raises(Killed), dying(written=written, at=number + 1):
                churn.trim()
            churn.drivers[number % 2].start()
            if written:
                churn.drivers[number % 2].send([BACK])

            churn.trim()

            churn.check()
            assert defined(churn) == ids(LIVE, BACK) if written else ids(LIVE)
            assert not condemned(churn)
            churn.remove("samples", [BACK.series_id])
    table = Table(churn.store, SERIES)
    assert table.position(positions.trim()) == table.position(positions.trimmed())


def test_condemned_definitions_are_not_merged_with_others(churn, monkeypatch):
    until_fenced(churn, monkeypatch)
    churn.drivers[0].send([define("up", {"pod": "x"})])
    before = condemned(churn)

    churn.merge_definitions()

    assert condemned(churn) == before
    assert churn.trim().series == 2


def test_a_driver_whose_log_has_expired_between_passes_over_condemned_series(churn, monkeypatch):
    index = SeriesIdIndex(churn.store)
    until_fenced(churn, monkeypatch)
    table = Table(churn.store, SERIES)
    expire_log(table, table.version)

    assert status(index, LIVE, GONE, BACK) == [KNOWN, UNKNOWN, UNKNOWN]


def test_a_file_that_cannot_be_read_spares_what_it_may_have(churn):
    churn.add("rollup_1h", [min(LIVE.series_id, GONE.series_id, BACK.series_id)])
    churn.add("rollup_1h", [LIVE.series_id])
    low, high = sorted([GONE.series_id, BACK.series_id])
    churn.add("rollup_5m", [low, high])
    (broken,) = snapshot(churn.store, "rollup_5m").files
    with churn.store.filesystem("rollup_5m").open_output_stream(broken.path) as out:
        out.write(b"damaged")

    assert churn.trim().series == 0
    assert defined(churn) == ids(LIVE, GONE, BACK)


def test_a_backup_that_could_have_rows_without_their_definition_is_begun_again(
    churn, tmp_path, monkeypatch
):
    target, refresh = Store(str(tmp_path / "target")), Table.refresh

    def late(table):
        found = refresh(table)
        if table.name == "samples":
            monkeypatch.setattr(Table, "refresh", refresh)
            churn.trim()
            monkeypatch.setattr(Table, "refresh", late)
        return found

    monkeypatch.setattr(backup, "_LOOKS", 1)
    monkeypatch.setattr(Table, "refresh", late)

    with pytest.raises(TemporaryError, match="begin again"):
        take_backup(churn.store, target, churn.clock)
    monkeypatch.setattr(Table, "refresh", refresh)
    assert take_backup(churn.store, target, churn.clock).backup.is_one_moment


def test_a_restored_backup_of_a_trimming_that_was_cut_off_goes_on(churn, tmp_path, monkeypatch):
    until_fenced(churn, monkeypatch)
    target = Store(str(tmp_path / "target"))
    taken = take_backup(churn.store, target, churn.clock).backup
    churn.trim()
    churn.store = Store(str(tmp_path / "restored"))
    restore_backup(target, churn.store, taken)
    for driver in churn.drivers:
        driver.start()
    assert defined(churn) == ids(LIVE, GONE, BACK)
    churn.drivers[0].send([BACK])

    done = churn.trim()

    assert (done.series, done.returned) == (1, 1)
    churn.check()


def test_merging_definitions_leaves_the_last_registration_of_a_series(churn, monkeypatch):
    until_fenced(churn, monkeypatch)
    churn.add("rollup_1h", [BACK.series_id])
    churn.drivers[0].send([BACK])
    churn.trim()
    churn.merge_definitions()

    rows = snapshot(churn.store, SERIES).scan(Bounds()).to_pylist()

    assert sorted(r["series_id"] for r in rows) == sorted(ids(LIVE, BACK))
    assert {r["series_id"]: r["last_seen"] for r in rows}[BACK.series_id] == churn.clock.now_ms()
