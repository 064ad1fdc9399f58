"""spark-submit main: Kafka topics into samples, series and quarantine, until it is stopped.

spark-submit ... jobs/ingest.py --config varve.toml [--query bulk]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.services.ingest_plans import ingest_plans
from varve.services.instruments import Instruments
from varve.services.logs import configure_for
from varve.services.streams import run_job, start_ingest, with_topics
from varve.settings import load


def main() -> int:
    parser = argparse.ArgumentParser(description="Kafka topics into Delta tables, exactly once.")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    parser.add_argument("--query", action="append", help="such as bulk; all by default")
    parser.add_argument(
        "--available-now", action="store_true", help="store what Kafka has, then end"
    )
    args = parser.parse_args()
    settings, _ = load(args.config)
    configure_for(settings)
    instruments = Instruments()
    plans = ingest_plans(settings, args.query, available_now=args.available_now)
    plans = instruments.on_ingest(plans if args.query else with_topics(plans))
    return run_job("varve-ingest", settings, [start_ingest(plan) for plan in plans], instruments)


if __name__ == "__main__":
    sys.exit(main())
