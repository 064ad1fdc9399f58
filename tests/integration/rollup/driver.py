"""Ingest and rollups in one process, which can be made to kill itself.

python driver.py POINT NUMBER: kills itself (SIGKILL, with the JVM) when POINT is passed the
NUMBERth time; POINT "none" never. Settings come from VARVE_* in the environment. Appends the
accounting of every rollup commit to rollups.jsonl in the home, a line each.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from dataclasses import replace

from varve.rollups import repairs, tier
from varve.services.logs import configure_logging
from varve.services.streams import (
    ingest_plans,
    rollup_plan,
    run_queries,
    start_ingest,
    start_rollup,
)
from varve.settings import load
from varve.spark.session import local_conf, session

POINTS = {
    "before the commit": (tier, "commit", True),
    "after the commit": (tier, "commit", False),
    "between the commits": (repairs.RepairNotes, "write", True),
    "after both commits": (repairs.RepairNotes, "write", False),
}


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


def die() -> None:
    os.killpg(os.getpgid(0), signal.SIGKILL)


def main() -> int:
    point, number = sys.argv[1], int(sys.argv[2])
    configure_logging()
    if point != "none":
        arm(point, number)
    settings, _ = load()
    scratch = settings.home.absolute() / "spark"
    scratch.mkdir(parents=True, exist_ok=True)
    spark = session("varve-test", local_conf("local[2]", 768, scratch))

    def note(accounting):
        with (settings.home / "rollups.jsonl").open("a") as out:
            out.write(json.dumps(accounting) + "\n")

    plan = replace(rollup_plan(settings), on_commit=note)
    starts = [start_ingest(p) for p in ingest_plans(settings)]
    return run_queries(spark, [*starts, start_rollup(plan)])


if __name__ == "__main__":
    sys.exit(main())
