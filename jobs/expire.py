"""Main: deletes what is older than its retention. Needs no JVM.

python jobs/expire.py --config varve.toml [--table TABLE | --except TABLE] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.maintenance.expiry import Expiration
from varve.services.batch_jobs import add_table_option
from varve.services.batch_jobs import main as run
from varve.services.progress import table_store
from varve.services.retention import retention_reader

DESCRIPTION = """\
Deletes samples and rollup rows that are older than retention.* of the settings, and those of series
that limits.toml keeps for a shorter time, [retention.NAME]; anomalies, alerts, forecasts and
results of checks after 400 days; then the definitions of series that no table has a row of any
more (table series). Nothing goes before it is rolled up. Readers of earlier versions
find the files for 12 more hours, then jobs/vacuum.py deletes them. `varve up` does this by itself,
once an hour.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_table_option(parser, Expiration.tables)
    return run(
        parser, lambda _, settings: Expiration(table_store(settings), retention_reader(settings)())
    )


if __name__ == "__main__":
    sys.exit(main())
