"""Panels that are refreshed while their tables change, with kept steps and without."""

from __future__ import annotations

import math
from collections import Counter

from tests.tables import QUERY, WrittenTables
from varve.model.identity import define
from varve.model.window import HOUR_MS, MINUTE_MS, RAW, TIERS
from varve.promql import result_json
from varve.query.evaluation import Options, Range, evaluate
from varve.query.memory import MemoryBudget
from varve.query.step_cache import StepCache
from varve.query.tables import Tables
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

T = 1_795_338_000_000 // HOUR_MS * HOUR_MS
STEP_MS = MINUTE_MS
SERIES = [define("x_total", {"i": str(i), "job": "ab"[i % 2]}) for i in range(6)]
ORDER = [("series_id", "ascending"), ("ts", "ascending")]
EXPRESSIONS = (
    "sum by (job) (increase(x_total[5m]))",
    "stddev_over_time(x_total[20m])",
    "avg(avg_over_time(x_total[10m] offset 10m)) - count(x_total)",
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
        self.roll_up()
        self.followed = Tables(self.tables.store, [QUERY], 32 << 20)
        self.cache = StepCache(1 << 20, MemoryBudget(1 << 30))
        self.cached = self.asked = 0
        self.tiers = Counter()

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

    def roll_up(self, tiers=TIERS[:3]):
        """Closes and repairs all that is due in some tiers, as of all that has come."""
        self.tables.put([], complete_ms=self.now)
        self.tables.roll_up(tiers)

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

    def refresh(self, expression, minutes=60, tier=None, *, cold=True):
        """cold: whether it is computed from files alone, too."""
        self.followed.poll()
        while not self.followed.caught_up:
            self.followed.poll()
        end = self.now // STEP_MS * STEP_MS
        times = Range(end - minutes * MINUTE_MS, end, STEP_MS)
        view = self.followed.view
        got = evaluate(view, expression, times, Options(steps=self.cache, tier=tier))
        plain = evaluate(view, expression, times, Options(tier=tier))

        assert result_json.to_json(got.result) == result_json.to_json(plain.result)
        if cold:
            files = evaluate(view.without_head(), expression, times, Options(tier=tier))
            assert result_json.to_json(files.result) == result_json.to_json(plain.result)
        assert got.provenance.tier == plain.provenance.tier
        assert (got.result.warnings, got.result.infos) == ([], [])
        self.cached += got.provenance.cached
        self.asked += minutes + 1
        self.tiers[got.provenance.tier] += 1
        return got


def change(world, rng, minute):
    """One event in the life of tables, and the minute to come."""
    event = rng.random()
    if event < 0.5:
        world.put([minute])
        return minute + 1
    if event < 0.6:
        late = rng.randrange(max(0, minute - 50), minute)
        world.put([late, late + 1][: rng.randrange(1, 3)], rng.sample(range(world.known), 1))
    elif event < 0.65:
        world.known = min(len(SERIES), world.known + 1)
    elif event < 0.72:
        world.compact()
    elif event < 0.76:
        begin = T + rng.randrange(minute) * MINUTE_MS
        world.delete(rng.choice(SERIES).series_id, begin, begin + 5 * MINUTE_MS)
    elif event < 0.9:
        world.roll_up()
    else:
        world.roll_up(TIERS[: rng.randrange(1, 3)])
    return minute


def steady(world, panels, minutes):
    """Refreshes panels as time goes on: samples come in time, files are merged, tiers close."""
    asked = [(panel, tier) for panel in panels for tier in (None, RAW)]
    for panel, tier in asked:
        world.refresh(panel, minutes, tier)
    world.cached = world.asked = 0
    for minute in range(40, 60):
        world.put([minute])
        if minute % 5 == 0:
            world.compact()
        if minute % 3 == 0:
            world.roll_up()
        for panel, tier in asked:
            world.refresh(panel, minutes, tier)
