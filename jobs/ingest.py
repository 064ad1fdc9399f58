"""spark-submit main: Kafka topics into samples, series and quarantine, until it is stopped.

spark-submit ... jobs/ingest.py --config varve.toml [--query bulk]
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.services.logs import configure_logging
from varve.services.streams import ingest_plans, run_queries, start_ingest
from varve.settings import load
from varve.spark.session import session


def main() -> int:
    parser = argparse.ArgumentParser(description="Kafka topics into Delta tables, exactly once.")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    parser.add_argument("--query", action="append", help="bulk or critical; both by default")
    parser.add_argument(
        "--available-now", action="store_true", help="store what Kafka has, then end"
    )
    args = parser.parse_args()
    configure_logging()
    settings, _ = load(args.config)
    plans = ingest_plans(settings, args.query, available_now=args.available_now)
    return run_queries(session("varve-ingest"), [start_ingest(plan) for plan in plans])


if __name__ == "__main__":
    sys.exit(main())
