"""`varve delete`: takes samples out of every table, for mistakes and for privacy."""

from __future__ import annotations

import argparse
import getpass
import socket

from varve.maintenance.deletion import Deletion
from varve.maintenance.deletion_log import Wanted
from varve.model.errors import BadRequest
from varve.query.times import MAX_TIME_MS, MIN_TIME_MS, parse_time_ms
from varve.services.batch_jobs import add_options, run_job
from varve.services.progress import table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Deletes the samples of some series, in a range of time, as if they had never been: from raw samples,
and from the rollups, which are computed anew where a window has other samples. Everything else may
run meanwhile. What it deleted, when and for whom is in the log of the table samples for as long as
that reaches. Files of earlier versions stay for 12 hours, then `varve up` (or jobs/vacuum.py)
deletes them. There is no way back but a backup.

The definitions of the series stay, and so does quarantine. A window at an end of the range that
cannot be computed anew, since what it was computed from has expired, goes as a whole.
"""
    parser.epilog = """\
examples:
  varve delete --match 'http_requests_total{job="typo"}' --dry-run
  varve delete --match 'up{instance="a:1"}' --from 2026-11-01T00:00:00Z --to 2026-11-02T00:00:00Z
  varve delete --match '{user!=""}'                  of all time
"""
    parser.add_argument(
        "--match",
        action="append",
        required=True,
        metavar="SELECTOR",
        help="series to delete; repeat it to delete those of several selectors",
    )
    parser.add_argument(
        "--from", dest="start", metavar="TIME", help="first time, inclusive: RFC 3339 or Unix s"
    )
    parser.add_argument("--to", dest="end", metavar="TIME", help="last time, inclusive")
    add_options(parser)


def run(args: argparse.Namespace, settings: Settings) -> int:
    wanted = Wanted(
        tuple(args.match),
        _time(args.start, MIN_TIME_MS),
        _time(args.end, MAX_TIME_MS),
        by=f"{getpass.getuser()}@{socket.gethostname()}",
    )
    return run_job(Deletion(table_store(settings), wanted), args, settings)


def _time(text: str | None, default: int) -> int:
    if text is None:
        return default
    try:
        return parse_time_ms(text)
    except ValueError as err:
        raise BadRequest(str(err)) from err
