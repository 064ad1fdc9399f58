"""Main: checks what is in the tables against expectations. Needs no JVM.

python jobs/check_quality.py --config varve.toml [--from TIME --to TIME] [--dry-run] [--json]
"""

from __future__ import annotations

import argparse
import sys

from varve.services.batch_jobs import main as run
from varve.services.batch_jobs import time_ms
from varve.services.quality import quality_check

DESCRIPTION = """\
Looks at a day of the tables, by default the last one: schema, NULLs, counters that fall, gaps,
frontiers, accounting of ingest, and whether rollups of some hours are what the samples give.
Results are rows of the table quality and metrics (varve_quality_success); what is not as expected
is an alert event on the topic alerts. Pages about the last run are in <home>/quality.
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--from", dest="start", type=time_ms, metavar="TIME", help="RFC 3339")
    parser.add_argument("--to", dest="end", type=time_ms, metavar="TIME", help="RFC 3339")
    parser.add_argument("--seed", type=int, help="of what is drawn at random")
    return run(
        parser,
        lambda args, settings: quality_check(settings, args.start, args.end, args.seed),
    )


if __name__ == "__main__":
    sys.exit(main())
