"""What rollups leave behind in weeks of running is bounded."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.unit.rollups.simulation import START, Simulation
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, TIERS
from varve.rollups import repair_log
from varve.rollups.late_rows import LateWindows
from varve.rollups.repair_log import MOST_RANGES, rows_of
from varve.storage import positions
from varve.storage.log import entries
from varve.storage.snapshot import snapshot
from varve.storage.table import Table


def source(simulation, tier):
    return Table(simulation.store, tier.table).position(positions.source(tier.name))


def test_notes_are_merged_into_few_files_and_the_oldest_go(tmp_path, monkeypatch):
    monkeypatch.setattr(repair_log, "MOST_FILES", 4)
    monkeypatch.setattr(repair_log, "MOST_ROWS", 12)
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START + 5_000 * k, 1.0) for k in range(720)])
    simulation.advance(HOUR_MS)
    simulation.settle()
    files = []
    for k in range(15):
        simulation.put([(1, START + k * MINUTE_MS + 7, 2.0)])
        simulation.advance(MINUTE_MS)
        for tier in TIERS:
            while simulation.step(tier.name) is not None:
                pass
        files.append(len(snapshot(simulation.store, "repairs").files))

    rows = simulation.rows("repairs")

    assert max(files) <= 5
    assert 12 <= len(rows) <= 12 + 4
    newest = max(r["noted_at"] for r in rows)
    assert newest == simulation.clock.now_ms()
    assert min(r["noted_at"] for r in rows) > START + HOUR_MS + 8 * MINUTE_MS
    assert simulation.verify().differences == []
    # Every tier's notes are known to be written, also after a start.
    for tier in TIERS:
        simulation.workers[tier.name] = simulation.worker(tier)
        simulation.workers[tier.name].recover()


def test_a_commit_stays_small_however_scattered_what_it_repairs(tmp_path):
    ends = START - np.arange(1, 10_000) * 3 * HOUR_MS
    keys = np.stack([np.ones(len(ends), np.int64), np.sort(ends)], axis=1)

    rows = rows_of(TIERS[0], LateWindows(keys), "repaired", 1, START)

    assert 1 <= len(rows) <= MOST_RANGES
    assert sum(row["windows"] for row in rows) == len(keys)
    assert min(row["start_ms"] for row in rows) == ends.min() - MINUTE_MS
    assert max(row["end_ms"] for row in rows) == ends.max()
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START - day * DAY_MS, 1.0) for day in range(200)])
    simulation.advance(MINUTE_MS * 2)
    simulation.settle()
    simulation.put([(1, START - day * DAY_MS + 1, 1.0) for day in range(200)])
    simulation.settle()
    newest = Table(simulation.store, "rollup_1m").version
    for entry in entries(simulation.store, "rollup_1m", -1, newest):
        assert len(json.dumps(entry.metadata)) < 10_000
    assert simulation.verify().differences == []


@pytest.mark.parametrize("has_closed", [False, True])
def test_an_idle_tier_keeps_no_log_of_the_table_below(tmp_path, monkeypatch, has_closed):
    monkeypatch.setattr("varve.rollups.tier.VERSIONS_PER_MARK", 5)
    simulation = Simulation(tmp_path)
    if has_closed:
        simulation.put([(1, START + 1_000, 1.0)])
        simulation.advance(3 * MINUTE_MS)
        simulation.settle()
    begin_ms = simulation.input_ms
    for k in range(20):  # input whose completeness stands still: nothing can be closed
        simulation.put([(1, begin_ms + k * 1_000, 1.0)])
        simulation.clock.advance(MINUTE_MS)
        for tier in TIERS:
            simulation.step(tier.name)

        behind = Table(simulation.store, "samples").version - (source(simulation, TIERS[0]) or 0)
        assert behind <= 5 + 2

    simulation.settle()
    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_a_tier_without_windows_is_marked_and_misses_nothing_after_a_crash(tmp_path, monkeypatch):
    monkeypatch.setattr("varve.rollups.tier.VERSIONS_PER_MARK", 3)
    simulation = Simulation(tmp_path)
    for k in range(8):
        simulation.put([(1, START + (k + 1) * 1_000, 1.0)])
        simulation.step("1m")
    assert source(simulation, TIERS[0]) is not None
    simulation.workers["1m"] = simulation.worker(TIERS[0])
    simulation.put([(1, START + 9_000, 1.0)])
    simulation.advance(2 * MINUTE_MS)
    simulation.step("1m")
    simulation.workers["1m"] = simulation.worker(TIERS[0])
    simulation.put([(1, START + 10_000, 1.0)])

    simulation.settle()

    assert simulation.pending() == []
    assert simulation.verify().differences == []
    assert max(simulation.rows("rollup_1m"), key=lambda r: r["revision"])["count"] == 10
