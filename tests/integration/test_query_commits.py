"""A service is asked while every job changes its tables: no answer lacks a sample or has one twice.

`make diff-commits` does the same at length, with each job in a process of its own.
"""

from __future__ import annotations

import itertools
import threading
import time
from dataclasses import replace

from tests.asked import KINDS, ask_all
from tests.changing import HOURS_A_TURN, Changing, Plan
from tests.integration.api_service import served, service_over
from tests.tables import QUERY
from varve.query.memory import MemoryBudget
from varve.query.snapshots import Snapshots
from varve.query.step_cache import StepCache
from varve.query.table_follower import TableFollower
from varve.telemetry.metrics import QueryMetrics
from varve.telemetry.registry import Telemetry

TURNS = 3
"""A day closes, so rows are laid out for good, move and expire."""
LEAST, MOST = 150, 20_000
"""Questions, however slow the jobs are."""


def test_while_all_jobs_commit_no_answer_fails_lacks_a_sample_or_has_one_twice(tmp_path):
    changing = Changing(tmp_path, Plan(seed=5, series=8, each_ms=600_000), hours=90)
    memory, metrics = MemoryBudget(1 << 30), QueryMetrics(Telemetry())
    follower = TableFollower(changing.jobs.store, (QUERY,), 1 << 20, 0.02, memory, metrics)
    service = service_over(changing.jobs.tables)
    steps = StepCache(1 << 20, memory)
    service.options = replace(service.options, newer_view=follower.newer_view, steps=steps)
    service.view, service.state = follower.view, follower.state
    service.snapshots = Snapshots(changing.jobs.store, (QUERY,), follower.view)
    follower.start()
    deadline_s = time.monotonic() + 120
    while follower.view() is None and time.monotonic() < deadline_s:
        follower.newer_view(None)
    writer = threading.Thread(target=lambda: [changing.turn(number) for number in range(TURNS)])

    asked = itertools.count()

    with served(service) as url:
        writer.start()
        tally = ask_all(
            url.removeprefix("http://"),
            changing,
            queries=MOST,
            connections=1,
            seed=5,
            goes_on=lambda: next(asked) < LEAST or writer.is_alive(),
        )
    writer.join()
    follower.stop()

    assert not tally.failures, tally.failures[0]
    assert changing.hours.value == 90 + TURNS * HOURS_A_TURN
    assert all(changing.done[job].value for job in ("roll up", "merge", "move", "expire"))
    assert {kind for kind, _ in tally.found} >= {*KINDS} - {"at least"}
    assert tally.found["as of", "the same"]
