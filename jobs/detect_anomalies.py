"""spark-submit main: judges every minute of every series by its baseline, until it is stopped.

spark-submit ... jobs/detect_anomalies.py --config varve.toml
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.services.instruments import Instruments
from varve.services.logs import configure_for
from varve.services.streams import anomaly_plan, run_job, start_detection
from varve.settings import load


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Tells of series that leave what is usual for them, by jobs/baseline.py."
    )
    parser.add_argument("--config", type=Path, help="settings (TOML)")
    args = parser.parse_args()
    settings, _ = load(args.config)
    configure_for(settings)
    instruments = Instruments()
    plan = instruments.on_anomalies(anomaly_plan(settings))
    return run_job("varve-anomalies", settings, [start_detection(plan)], instruments)


if __name__ == "__main__":
    sys.exit(main())
