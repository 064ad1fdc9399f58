"""Main: re-ingests what quarantine holds, by reason and time, exactly once. Needs no JVM.

python jobs/replay_quarantine.py --config varve.toml --reason too_old --since 2026-11-22T00:00:00Z
"""

from __future__ import annotations

import argparse
import sys

from varve.ingest.quarantine_replay import Selection
from varve.ingest.reject_reasons import Reason
from varve.maintenance.replay_quarantine import ReplayQuarantine
from varve.services.batch_jobs import main as run
from varve.services.batch_jobs import time_ms
from varve.services.ingest_plans import ingest_plans
from varve.settings import Settings

DESCRIPTION = """\
Judges samples in quarantine as if they came now: stores those that may be stored by now, exactly
once, and leaves the others where they are. Run it after a fix: limits.toml was raised, a setting
changed, definitions have come. Needs the tables alone: nothing has to run, and what runs may go on.
"""
EXAMPLES = """\
examples:
  replay_quarantine.py --reason cardinality_limit --dry-run
  replay_quarantine.py --reason too_old --reason malformed --since 2026-11-22T00:00:00Z --json
"""


def main() -> int:
    parser = argparse.ArgumentParser(
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    reasons = [reason.value for reason in Reason]
    parser.add_argument(
        "--reason",
        action="append",
        required=True,
        choices=reasons,
        metavar="REASON",
        help=f"why they were refused, may be repeated: {', '.join(reasons)}",
    )
    parser.add_argument("--query", action="append", help="bulk or critical; both by default")
    for option, default, text in (
        ("--since", -1, "refused after this time (RFC 3339)"),
        ("--until", (1 << 63) - 1, "refused up to this time (default: now)"),
    ):
        parser.add_argument(option, type=time_ms, metavar="TIME", default=default, help=text)
    return run(parser, _job)


def _job(args: argparse.Namespace, settings: Settings) -> ReplayQuarantine:
    selection = Selection(frozenset(map(Reason, args.reason)), args.since, args.until)
    return ReplayQuarantine(ingest_plans(settings, args.query), selection)


if __name__ == "__main__":
    sys.exit(main())
