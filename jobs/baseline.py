"""Main: brings features and baselines of all series up to the last closed hour. Needs no JVM.

python jobs/baseline.py --config varve.toml [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.anomaly.baseline_job import Baselines
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store

DESCRIPTION = """\
Computes what is usual for every series: mean and standard deviation of its minutes over seven days,
by the hour of the day or the week where that predicts better. Run it every hour: it reads the
minutes of hours that have closed or were repaired since. `varve up` does this by itself.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return run(
        parser,
        lambda _, settings: Baselines(table_store(settings), settings.holidays.calendar()),
    )


if __name__ == "__main__":
    sys.exit(main())
