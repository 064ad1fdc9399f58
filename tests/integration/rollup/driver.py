"""Ingest and rollups in one process, which can be made to kill itself.

python driver.py POINT NUMBER: kills itself (SIGKILL, with the JVM) when POINT is passed the
NUMBERth time; POINT "none" never. POINT "rollups alone": without ingest, by a clock that is NUMBER
ms ahead. POINT "rollups held": no rollup is committed before there is a file named go in the home,
as if they were slow. Settings come from VARVE_* in the environment. Appends to files in the home,
a line each: to rollups.jsonl the accounting of every rollup commit, to batches.jsonl that of every
ingest batch, to looks.txt each tier's name whenever it was looked at.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

from varve.model.clock import SystemClock
from varve.rollups import repair_log, tier
from varve.services.ingest_plans import ingest_plans
from varve.services.logs import configure_logging
from varve.services.query_supervision import Start
from varve.services.streams import rollup_plan, run_queries, start_ingest, with_topics
from varve.settings import load
from varve.spark.rollup import RollupQuery
from varve.spark.session import local_conf, session
from varve.storage.table import create_tables

ALONE = "rollups alone"
HELD = "rollups held"
POINTS = {
    "before the commit": (tier, "commit", True),
    "after the commit": (tier, "commit", False),
    "between the commits": (repair_log.RepairNotes, "write", True),
    "after both commits": (repair_log.RepairNotes, "write", False),
}


@dataclass(frozen=True)
class Ahead:
    """The system's clock, ahead_ms in the future."""

    ahead_ms: int

    def now_ms(self) -> int:
        return SystemClock().now_ms() + self.ahead_ms


def arm(point: str, number: int) -> None:
    owner, name, is_before = POINTS[point]
    original = getattr(owner, name)
    passed = 0

    def armed(*args, **kwargs):
        nonlocal passed
        passed += 1
        if is_before and passed == number:
            die()
        result = original(*args, **kwargs)
        if passed == number:
            die()
        return result

    setattr(owner, name, armed)


def hold(gate: Path) -> None:
    original = tier.commit

    def held(*args, **kwargs):
        while not gate.exists():
            time.sleep(0.05)
        return original(*args, **kwargs)

    tier.commit = held


def die() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> int:
    point, number = sys.argv[1], int(sys.argv[2])
    configure_logging()
    if point in POINTS:
        arm(point, number)
    settings, _ = load()
    if point == HELD:
        hold(settings.home / "go")
    scratch = settings.home.absolute() / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    spark = session("varve-test", local_conf("local[2]", 768, scratch))

    def note(name):
        def append(accounting):
            with (settings.home / name).open("a") as out:
                out.write(json.dumps(accounting) + "\n")

        return append

    def looked(name, _state):
        with (settings.home / "looks.txt").open("a") as out:
            out.write(name + "\n")

    plan = replace(rollup_plan(settings), on_commit=note("rollups.jsonl"), on_look=looked)
    create_tables(plan.store)
    plans = [] if point == ALONE else with_topics(ingest_plans(settings))
    starts = [start_ingest(replace(p, on_batch=note("batches.jsonl"))) for p in plans]
    clock = Ahead(number if point == ALONE else 0)
    return run_queries(
        spark, [*starts, Start("rollup", lambda spark: RollupQuery(spark, plan, clock))]
    )


if __name__ == "__main__":
    sys.exit(main())
