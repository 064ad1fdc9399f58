"""spark-submit main: the rollups 1m, 5m, 1h and 1d of samples, until it is stopped.

spark-submit ... jobs/rollup.py --config varve.toml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.services.streams import rollup_plan, run_queries, start_rollup
from varve.settings import load
from varve.spark.session import session


def main() -> int:
    parser = argparse.ArgumentParser(description="Rollups of the samples, exact at any lateness.")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    args = parser.parse_args()
    settings, _ = load(args.config)
    return run_queries(session("varve-rollup"), [start_rollup(rollup_plan(settings))])


if __name__ == "__main__":
    sys.exit(main())
