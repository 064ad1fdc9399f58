"""Main: moves old files to a colder root. Needs no JVM.

python jobs/tier.py --config varve.toml [--table TABLE] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.maintenance.tiering import Tiering
from varve.services.batch_jobs import add_table_option
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store
from varve.services.retention import move_ages_ms

DESCRIPTION = """\
Copies files whose rows are older than storage.cold_after_days to storage.cold_root, and removes
those that an earlier run has copied, once a quarter of an hour has passed and the copies are equal.
Everything else may go on. A cold root that is out of reach delays moves and loses nothing.
`varve up` does this by itself, once an hour.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_table_option(parser, Tiering.tables)
    return run(parser, lambda _, settings: Tiering(table_store(settings), move_ages_ms(settings)))


if __name__ == "__main__":
    sys.exit(main())
