"""Re-ingests what quarantine holds, by reason and time, exactly once: after a fix. Needs no JVM.

python jobs/replay_quarantine.py --config varve.toml --reason too_old --since 2026-11-22T00:00:00Z
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from pathlib import Path

from varve.ingest.limits import LimitsFile
from varve.ingest.plan import task_plan
from varve.ingest.quarantine_replay import Selection, replay
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_registry import SeriesRegistry
from varve.model.clock import SystemClock
from varve.services.ingest_plans import ingest_plans
from varve.services.logs import configure_for
from varve.settings import load


def main() -> int:
    parser = argparse.ArgumentParser(description="What quarantine holds, once more.")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    parser.add_argument("--query", action="append", help="bulk or critical; both by default")
    parser.add_argument("--reason", action="append", required=True, choices=[*map(str, Reason)])
    parser.add_argument("--since", type=_ms, default=-1, help="refused after this time, RFC 3339")
    parser.add_argument("--until", type=_ms, default=(1 << 63) - 1, help="and up to this one")
    args = parser.parse_args()
    settings, _ = load(args.config)
    configure_for(settings)
    selection = Selection(frozenset(map(Reason, args.reason)), args.since, args.until)
    for plan in ingest_plans(settings, args.query):
        registry = SeriesRegistry(plan.store, plan.tasks.scratch, plan.active_ms)
        now_ms = SystemClock().now_ms()
        limits = LimitsFile(plan.limits_files).current()
        counts = replay(
            plan.store, selection, task_plan(plan.tasks, registry, now_ms, limits), registry
        )
        print(json.dumps({"query": plan.query, **counts}))
    return 0


def _ms(text: str) -> int:
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("say the time zone: 2026-11-22T00:00:00Z")
    return round(moment.timestamp() * 1000)


if __name__ == "__main__":
    sys.exit(main())
