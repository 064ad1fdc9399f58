"""spark-submit main: forecasts the series of capacity.toml and says when resources run out.

spark-submit ... jobs/forecast.py --config varve.toml [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence

from varve.forecast.forecast_job import FitTask, Forecasting
from varve.forecast.series_forecast import SeriesForecast
from varve.services.batch_jobs import main as run
from varve.services.forecasts import forecasting, resources_file, show_progress
from varve.settings import Settings
from varve.spark.forecast import fit_on
from varve.spark.session import session

DESCRIPTION = """\
Forecasts a week, hour by hour, of each series that capacity.toml selects: by Prophet or as a season
ago, whichever was better on hours it did not know. Then says which resources run out. A series is
fitted once a day, or when it leaves its interval; run it every hour.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return run(parser, _job)


def _job(_args: argparse.Namespace, settings: Settings) -> Forecasting:
    return forecasting(settings, resources_file(settings), _fit, show_progress)


def _fit(tasks: Sequence[FitTask]) -> Iterable[SeriesForecast]:
    """Spark is started for the first series that is to be fitted, not before."""
    return fit_on(session("varve-forecast"))(tasks) if tasks else ()


if __name__ == "__main__":
    sys.exit(main())
