"""History that ingest would refuse: rows of it are as if its samples had come in time."""

from __future__ import annotations

import random
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.plans import open_registry
from tests.unit.maintenance.dying import Killed, deaths
from tests.year import BEGIN, TABLES, Year, retention
from varve.ingest.limits import Limits, MetricLimits
from varve.maintenance import backfill as backfill_module
from varve.maintenance.backfill import Backfill, Stretch, backfill_until
from varve.maintenance.backfill_rows import combined
from varve.maintenance.series_trimming import Trimming
from varve.model.errors import Conflict
from varve.model.identity import define
from varve.model.staleness import STALE_BITS
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS
from varve.rollups import algebra, kernel
from varve.rollups.task import run_task
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

KEPT = retention(4, 6, 8, 10, 11, debug=(1, 2.5, 4))
OLD = (
    define("requests_total", {"host": "old"}),
    define("debug_depth", {"env": "dev", "host": "old"}),
)
STALE = float(np.int64(STALE_BITS).view(np.float64))
MINUTE = TIERS[0]


@dataclass
class Block:
    """Samples from begin_ms on, before end_ms + 1, as a block has them."""

    name: str
    begin_ms: int
    end_ms: int
    samples: dict

    def stretches(self, window):
        for series in sorted(OLD, key=lambda s: (("__name__", s.metric), *s.tags)):
            found = sorted(
                (ts, value)
                for (series_id, ts), value in self.samples.items()
                if series_id == series.series_id
                and max(self.begin_ms, window.start_ms + 1) <= ts <= min(self.end_ms, window.end_ms)
            )
            if found:
                times, values = zip(*found, strict=True)
                values = [STALE if value is None else value for value in values]
                yield Stretch(
                    (("__name__", series.metric), *series.tags),
                    np.array(times, np.int64),
                    np.array(values, np.float64),
                )


def lived(tmp_path, seed, days=7):
    """Tables that have lived for some days, and what another system had of other series then."""
    year = Year(str(tmp_path), KEPT, seed=seed, each_ms=6 * HOUR_MS)
    for _ in range(days):
        year.day(parts=1)
    year.expire()
    year.series = (*year.series, *OLD)
    rng = random.Random(seed)
    history = {
        (s.series_id, ts): None if rng.random() < 0.02 else float(rng.randint(0, 100))
        for s in OLD
        for ts in range(BEGIN + MINUTE_MS, year.clock.now_ms(), 30 * MINUTE_MS)
        if rng.random() > 0.1
    }
    return year, history


def blocks_of(history, year):
    """Blocks as a Prometheus leaves them: of 2 to 54 hours, at multiples of 2 hours."""
    rng = random.Random(1)
    begin, number = BEGIN, 0
    while begin < year.clock.now_ms():
        end = begin + rng.choice([2, 6, 18, 54]) * HOUR_MS
        yield Block(f"block-{number}", begin, end - 1, history)
        begin, number = end, number + 1


def backfill(year, blocks, limits=None, told=lambda _: None):
    run = Backfill(year.store, year.kept, open_registry(year.store), limits or Limits())
    until_ms = backfill_until(year.clock.now_ms(), year.kept)
    return run.run(list(blocks), until_ms, year.clock.now_ms(), {}, told)


def brought(year, history):
    """The samples that go straight into the tables are known to the oracle from now on."""
    until_ms = backfill_until(year.clock.now_ms(), year.kept)
    year.samples.update({key: value for key, value in history.items() if key[1] <= until_ms})


def versions(year):
    return {name: Table(year.store, name).version for name in TABLES}


def test_every_row_is_as_if_the_samples_had_come_in_time(tmp_path):
    year, history = lived(tmp_path, 1, days=12)
    until_ms = backfill_until(year.clock.now_ms(), year.kept)
    reached = []

    outcome = backfill(year, blocks_of(history, year), told=reached.append)
    brought(year, history)
    year.roll_up()

    compared = year.check()
    assert all(compared.values()), compared
    assert reached[-1] == until_ms
    wanted = sum(ts <= until_ms for _, ts in history)
    assert (outcome.taken + outcome.expired, outcome.refused) == (wanted, 0)
    assert outcome.expired > 0
    year.day(parts=1)
    year.expire()
    year.check()


def test_a_second_run_brings_nothing(tmp_path):
    year, history = lived(tmp_path, 3)
    backfill(year, blocks_of(history, year))
    before = versions(year)

    outcome = backfill(year, blocks_of(history, year))

    assert (outcome.taken, outcome.refused) == (0, 0)
    assert versions(year) == before


def test_a_run_that_dies_at_any_commit_is_finished_by_the_next(tmp_path):
    year, history = lived(tmp_path, 4)
    history = {key: value for key, value in history.items() if key[1] > BEGIN + 5 * DAY_MS}

    died = sum(1 for _ in deaths(lambda: backfill(year, blocks_of(history, year)), Killed))
    brought(year, history)
    year.roll_up()

    assert died > 5
    assert all(year.check().values())


def test_a_run_goes_on_behind_the_days_that_are_there(tmp_path):
    year, history = lived(tmp_path, 3)
    read = []

    class Noted(Block):
        def stretches(self, window):
            read.append(window.end_ms)
            return super().stretches(window)

    def blocks():
        return [Noted(b.name, b.begin_ms, b.end_ms, history) for b in blocks_of(history, year)]

    def interrupted(reached_ms):
        if reached_ms == BEGIN + 4 * DAY_MS:
            raise Killed

    with pytest.raises(Killed):
        backfill(year, blocks(), told=interrupted)
    assert max(read) == BEGIN + 4 * DAY_MS
    read.clear()
    backfill(year, blocks())

    assert min(read) >= BEGIN + 4 * DAY_MS
    brought(year, history)
    year.roll_up()
    assert all(year.check().values())


def test_before_the_first_window_is_closed_everything_is_a_sample(tmp_path):
    year = Year(str(tmp_path), KEPT, seed=5)
    year.clock.advance(9 * DAY_MS)
    year.series = OLD
    history = {(OLD[0].series_id, BEGIN + n * HOUR_MS): float(n) for n in range(1, 100)}

    backfill(year, blocks_of(history, year))

    year.samples.update(history)
    assert year.stored("samples") == {key: (value,) for key, value in history.items()}
    year.put({})
    year.roll_up()
    assert all(year.check().values())


def test_blocks_that_are_brought_one_by_one_share_the_window_between_them(tmp_path):
    year, _ = lived(tmp_path, 6)
    step = {
        (OLD[0].series_id, ts): 1.0
        for ts in range(BEGIN + 3 * DAY_MS, BEGIN + 3 * DAY_MS + 8 * HOUR_MS + 1, 20_000)
    }
    begin, middle = BEGIN + 3 * DAY_MS, BEGIN + 3 * DAY_MS + 4 * HOUR_MS
    first = Block("first", begin, middle - 1, step)
    second = Block("second", middle, middle + 5 * HOUR_MS, step)

    for block in (second, first):
        assert backfill(year, [block]).refused == 0
    year.samples.update(step)
    year.roll_up()

    year.check()


def test_rows_of_other_samples_of_the_same_time_stay_and_are_told(tmp_path):
    year, _ = lived(tmp_path, 7)
    at = BEGIN + 2 * DAY_MS
    mine = {(OLD[0].series_id, at + n * 10_000): float(n) for n in range(1, 13)}
    other = {(OLD[0].series_id, at + 15_000 + n * 10_000): 5.0 for n in range(3)}
    backfill(year, [Block("mine", at, at + HOUR_MS, mine)])

    outcome = backfill(year, [Block("other", at, at + HOUR_MS, other)])

    assert (outcome.taken, outcome.refused) == (0, 3)
    assert "1 windows of rollup_1m" in outcome.problems[0]
    year.samples.update(mine)
    year.roll_up()
    year.check()


def test_series_beyond_a_limit_are_refused_and_told(tmp_path):
    year, history = lived(tmp_path, 8)
    limits = Limits(metrics={"requests_total": MetricLimits(series=3)})

    outcome = backfill(year, blocks_of(history, year), limits)

    until_ms = backfill_until(year.clock.now_ms(), year.kept)
    refused = sum(series == OLD[0].series_id and ts <= until_ms for series, ts in history)
    assert outcome.refused == refused > 0
    assert "cardinality_limit" in outcome.problems[0]


def test_a_driver_that_planned_before_plans_again(tmp_path):
    year, history = lived(tmp_path, 9)
    late = {(year.series[0].series_id, year.clock.now_ms() - HOUR_MS): 1e6}
    year.put(late)
    driver = year.workers[0]
    planned = driver.plan()

    backfill(year, blocks_of(history, year))

    with pytest.raises(Conflict):
        driver.commit(planned, [f for f in map(run_task, planned.tasks) if f is not None])
    driver.recover()
    brought(year, history)
    year.roll_up()
    year.check()


values = st.floats(allow_nan=True, width=32) | st.just(STALE)


@given(st.lists(values, max_size=8), st.lists(values, max_size=8), st.booleans(), st.integers(0, 9))
def test_two_halves_of_a_window_are_one_row_in_either_order(left, right, is_swapped, revision):
    at = BEGIN + 1
    times = np.arange(at, at + len(left) + len(right))
    both = np.array([*left, *right], np.float64)

    def rows(ts, values, revision=0):
        made = kernel.aggregate(np.full(len(ts), 7), ts, values, MINUTE.width_ms)
        return algebra.to_table(made, revision)

    halves = (
        rows(times[: len(left)], both[: len(left)], revision),
        rows(times[len(left) :], both[len(left) :], revision),
    )
    if is_swapped:
        halves = halves[::-1]
    found = combined(MINUTE, *halves, 3)

    assert not len(found.refused)
    stored = pa.concat_tables([halves[0], found.rows])
    if not stored.num_rows:
        return
    newest = stored.sort_by([("revision", "ascending")]).slice(stored.num_rows - 1).to_pylist()[0]
    if not is_swapped and halves[1].num_rows and halves[0].num_rows:
        assert newest["revision"] > revision
    whole = rows(times, both).to_pylist()[0]
    for name in set(whole) - {"revision", "sum", "sum_error", "m2"}:
        assert str(newest[name]) == str(whole[name]), name


def test_series_that_are_trimmed_before_a_day_is_committed_are_defined_anew(tmp_path, monkeypatch):
    year, history = lived(tmp_path, 1)
    year.tables.define(OLD)  # long ago: no row of them is left
    commit_day, trimmed = backfill_module._Day.commit, []

    def late(day):
        if not trimmed:
            job = Trimming(year.store, least_share=0.0)
            trimmed.append(job.run(job.plan(year.clock.now_ms(), {"series": definitions()})).series)
        commit_day(day)

    def definitions():
        return snapshot(year.store, "series")

    monkeypatch.setattr(backfill_module._Day, "commit", late)

    backfill(year, blocks_of(history, year))

    assert trimmed == [len(OLD)]
    defined = definitions().scan(Bounds(), ["series_id"])["series_id"].to_pylist()
    assert sorted(defined) == sorted(s.series_id for s in year.series)
    brought(year, history)
    year.roll_up()
    year.check()
