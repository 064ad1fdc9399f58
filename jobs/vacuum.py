"""Main: deletes files and log entries that no reader of the tables needs. Needs no JVM.

python jobs/vacuum.py --config varve.toml [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.maintenance.vacuum import Vacuum
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store

DESCRIPTION = """\
Deletes files that have been in no version of a table for 12 hours, those that merges have replaced
and those that failed tasks have left, and log entries as old that no tier of rollups has to read.
Until then readers of older versions still find them. `varve up` does this by itself.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    return run(parser, lambda _, settings: Vacuum(table_store(settings)))


if __name__ == "__main__":
    sys.exit(main())
