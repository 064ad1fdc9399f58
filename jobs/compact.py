"""Main: merges small files of the tables into few sorted ones. Needs no JVM.

python jobs/compact.py --config varve.toml [--table TABLE | --except TABLE] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.maintenance.compaction import Compaction
from varve.services.batch_jobs import add_table_option
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store

DESCRIPTION = """\
Does one round of merges in every table: of an open hour of samples (a day of rollup rows) once
some dozen small files have gathered, of a closed one as soon as it has several. Readers see the
same rows before and after, and everything else may go on. `varve up` does this by itself.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_table_option(parser, Compaction.tables)
    return run(parser, lambda _, settings: Compaction(table_store(settings)))


if __name__ == "__main__":
    sys.exit(main())
