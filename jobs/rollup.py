"""spark-submit main: the rollups 1m, 5m, 1h and 1d of samples, until it is stopped.

spark-submit ... jobs/rollup.py --config varve.toml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.services.instruments import Instruments
from varve.services.logs import configure_for
from varve.services.streams import rollup_plan, run_job, start_rollup
from varve.settings import load


def main() -> int:
    parser = argparse.ArgumentParser(description="Rollups of the samples, exact at any lateness.")
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    args = parser.parse_args()
    settings, _ = load(args.config)
    configure_for(settings)
    instruments = Instruments()
    plan = instruments.on_rollup(rollup_plan(settings))
    return run_job("varve-rollup", settings, [start_rollup(plan)], instruments)


if __name__ == "__main__":
    sys.exit(main())
