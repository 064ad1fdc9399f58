"""Steps that are kept: every answer is, byte for byte, the one that computes all of them."""

from __future__ import annotations

import math
from dataclasses import replace
from random import Random

import pytest

from tests.tables import QUERY, WrittenTables
from varve.model.identity import define
from varve.model.window import HOUR_MS, MINUTE_MS
from varve.promql import result_json
from varve.promql.engine import Engine
from varve.promql.testing import MemoryStorage
from varve.query import step_cache
from varve.query.changes import Changes
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import STEPS, MemoryBudget
from varve.query.step_cache import StepCache
from varve.query.tables import Tables
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.log import LiveFile, LogEntry
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

T = 1_795_338_000_000 // HOUR_MS * HOUR_MS
STEP_MS = MINUTE_MS
SERIES = [define("x_total", {"i": str(i), "job": "ab"[i % 2]}) for i in range(6)]
ORDER = [("series_id", "ascending"), ("ts", "ascending")]
EXPRESSIONS = (
    "x_total",
    "sum by (job) (rate(x_total[5m]))",
    "avg_over_time(x_total[7m])",
    "stddev_over_time(x_total[10m]) + on (i) max_over_time(x_total[3m] offset 2m)",
    "quantile_over_time(0.9, x_total[5m])",
    "topk(2, x_total)",
    "absent_over_time(x_total{i='9'}[2m])",
    "sum(x_total offset -1m) / count(x_total)",
    "x_total > 40 or timestamp(x_total{job='b'})",
)


def value_of(minute, i):
    """None that sums of it are exact in, so that their order shows."""
    return math.sin(minute * (i + 1)) * 1e3 + 1 / 3


class World:
    """Tables that grow and change, followed by two readers: one keeps steps, one none."""

    def __init__(self, root):
        self.tables = WrittenTables(root)
        self.tables.define(SERIES)
        self.now = T
        self.known = 3
        self.put(range(40))
        self.followed = Tables(self.tables.store, [QUERY], 32 << 20)
        self.cache = StepCache(1 << 20, MemoryBudget(1 << 30))
        self.cached = self.asked = 0

    def put(self, minutes, series=None):
        rows = [
            (
                SERIES[i].series_id,
                T + minute * MINUTE_MS + 7 * i,
                math.sin(minute * (i + 1)) * 1e3 + 1 / 3,
            )
            for minute in minutes
            for i in (range(self.known) if series is None else series)
        ]
        self.tables.put(rows)
        self.now = max(self.now, *(ts for _, ts, _ in rows))

    def compact(self):
        store = self.tables.store
        live = snapshot(store, "samples")
        rows = live.scan(Bounds()).sort_by(ORDER)
        removes = [Removal(file.path, file.size) for file in live.files]
        rewrite(Table(store, "samples"), [write_file(store, "samples", rows)], removes)

    def delete(self, series, begin, end):
        """Takes samples of a series out, as `varve delete` does."""
        store = self.tables.store
        for file in snapshot(store, "samples").files:
            rows = snapshot(store, "samples").scan(Bounds(), files=[file]).sort_by(ORDER)
            kept = [
                row
                for row in rows.to_pylist()
                if row["series_id"] != series or not begin <= row["ts"] <= end
            ]
            if len(kept) == rows.num_rows:
                continue
            left = type(rows).from_pylist(kept, rows.schema)
            added = [write_file(store, "samples", left)] if kept else []
            removal = Removal(file.path, file.size, rows_disappear=True)
            rewrite(Table(store, "samples"), added, [removal])

    def refresh(self, expression, minutes=60):
        self.followed.poll()
        while not self.followed.caught_up:
            self.followed.poll()
        end = self.now // STEP_MS * STEP_MS
        times = Range(end - minutes * MINUTE_MS, end, STEP_MS)
        view = self.followed.view
        got = evaluate(view, expression, times, Options(steps=self.cache))
        plain = evaluate(view, expression, times, Options())
        cold = evaluate(replace(view, head=(), files=view.all_files), expression, times, Options())

        assert result_json.to_json(got.result) == result_json.to_json(plain.result)
        assert result_json.to_json(cold.result) == result_json.to_json(plain.result)
        assert (got.result.warnings, got.result.infos) == ([], [])
        self.cached += got.provenance.cached
        self.asked += minutes + 1
        return got


@pytest.fixture
def world(tmp_path):
    made = World(str(tmp_path))
    yield made
    made.followed.close()


@pytest.mark.parametrize("seed", range(4))
def test_any_interleaving_answers_as_if_nothing_were_kept(world, seed):
    rng = Random(seed)
    panels = rng.sample(EXPRESSIONS, 3)
    minute = 40
    for _ in range(70):
        step = rng.random()
        if step < 0.55:
            world.put([minute])
            minute += 1
        elif step < 0.65:
            late = rng.randrange(max(0, minute - 50), minute)
            world.put([late, late + 1][: rng.randrange(1, 3)], rng.sample(range(world.known), 1))
        elif step < 0.7:
            world.known = min(len(SERIES), world.known + 1)
        elif step < 0.8:
            world.compact()
        elif step < 0.85:
            begin = T + rng.randrange(minute) * MINUTE_MS
            world.delete(rng.choice(SERIES).series_id, begin, begin + 5 * MINUTE_MS)
        for panel in panels:
            world.refresh(panel, rng.choice((60, 60, 60, 45)))

    assert world.cached > world.asked / 3


def test_a_steady_panel_computes_new_steps_alone(world):
    for panel in EXPRESSIONS:
        world.refresh(panel)
    world.cached = world.asked = 0
    for minute in range(40, 60):
        world.put([minute])
        if minute % 5 == 0:
            world.compact()
        for panel in EXPRESSIONS[:3]:
            world.refresh(panel, 120)

    assert world.cached >= 0.9 * world.asked


def test_what_depends_on_more_than_its_own_time_is_not_kept(world):
    for text in (
        "x_total @ end()",
        "max_over_time(sum(x_total)[10m:1m])",
        "rate(x_total[step()*3])",
        "time()",
        "sum(x_total @ 1795338000)",
    ):
        world.refresh(text)

        assert world.cache.nbytes == 0, text


def test_answers_with_infos_or_of_another_snapshot_are_not_kept(world):
    world.followed.poll()
    view, times = world.followed.view, Range(T, T + HOUR_MS, STEP_MS)

    nothing = evaluate(view, "y", times, Options(steps=world.cache, say_why_empty=True))
    evaluate(replace(view, changes=None), "x_total", times, Options(steps=world.cache))

    assert nothing.result.infos
    assert world.cache.nbytes == 0


def test_an_older_view_takes_nothing_from_a_newer_one_and_leaves_it(world):
    world.refresh("x_total")
    older, end = world.followed.view, world.now // STEP_MS * STEP_MS
    world.put([5], [1])
    world.tables.put([(SERIES[1].series_id, T + 20 * MINUTE_MS + 1, 1e6)])
    world.refresh("x_total")
    times = Range(end - HOUR_MS, end, STEP_MS)

    got = evaluate(older, "x_total", times, Options(steps=world.cache))

    assert got.provenance.cached == 0
    wanted = evaluate(older, "x_total", times, Options()).result
    assert result_json.to_json(got.result) == result_json.to_json(wanted)
    assert world.refresh("x_total").provenance.cached == 61


def test_the_least_recently_used_go_past_the_bound_and_are_counted():
    budget = MemoryBudget(1 << 30)
    engine = Engine(MemoryStorage.of({(("__name__", "x"),): [(T, 1.0, 0)]}))
    kept = step_cache.keepable(engine.range("x", T, T + HOUR_MS, STEP_MS), 1)
    cache = StepCache(3 * kept.nbytes, budget)

    for number in range(5):
        cache.put((f"x{number}", 1, 0, 0, None), kept)
        assert cache.get(("x0", 1, 0, 0, None)) is not None

    assert cache.get(("x1", 1, 0, 0, None)) is None
    assert cache.get(("x4", 1, 0, 0, None)) is kept
    assert budget.used[STEPS] == cache.nbytes == 3 * kept.nbytes


def test_changes_are_known_as_far_back_as_they_are_kept():
    def commit(version):
        file = LiveFile(f"f{version}", 1, 1, {"ts": version}, {"ts": version + 1})
        return LogEntry(version, adds=(file,)), ()

    changes = Changes(10).extended(commit(v) for v in range(11, 6_000))

    assert changes.after(5_997) == ((5_998, 5_999), (5_999, 6_000))
    assert changes.after(5_999) == ()
    assert changes.after(10) is None
    assert len(changes.after(changes.since)) == len(changes.versions) == 4_096
