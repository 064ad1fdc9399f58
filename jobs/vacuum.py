"""Main: deletes files of the tables that no version of the last hours needs. Needs no JVM.

python jobs/vacuum.py --config varve.toml [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.maintenance.vacuum import Vacuum
from varve.model.window import HOUR_MS
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store
from varve.settings import Settings

DESCRIPTION = """\
Deletes files that have been in no version of a table for maintenance.keep_hours: those that
merges have replaced and those that failed tasks have left. Until then readers of older versions
still find them. `varve up` does this by itself.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return run(parser, _job)


def _job(_: argparse.Namespace, settings: Settings) -> Vacuum:
    return Vacuum(table_store(settings), int(settings.maintenance.keep_hours * HOUR_MS))


if __name__ == "__main__":
    sys.exit(main())
