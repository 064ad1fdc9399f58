"""Runs batch jobs from a command line: the mains in jobs/ and commands of `varve` alike."""

from __future__ import annotations

import argparse
import datetime as dt
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from varve.maintenance.batch_job import BatchJob, execute
from varve.model.clock import SystemClock
from varve.model.errors import VarveError
from varve.services.logs import configure_for
from varve.services.progress import table_store
from varve.settings import Settings, load

MakeJob = Callable[[argparse.Namespace, Settings], BatchJob[Any]]
"""Makes the job that the command line asks for. Raises VarveError if it asks for nonsense."""


def add_options(parser: argparse.ArgumentParser) -> None:
    """The options that every batch job has."""
    parser.add_argument("--dry-run", action="store_true", help="say what is due and change nothing")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")


def add_table_option(parser: argparse.ArgumentParser, tables: Sequence[str]) -> None:
    """The options of a job that can do its tables one by one, so that a scheduler may: large ones
    each for itself, and in one go all others there are, in this release or a later one.
    """
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument(
        "--table",
        action="append",
        choices=tables,
        metavar="TABLE",
        help=f"only this table, may be repeated: {', '.join(tables)}",
    )
    chosen.add_argument(
        "--except",
        dest="left_out",
        action="append",
        choices=tables,
        metavar="TABLE",
        help="all tables but this one, may be repeated",
    )


def time_ms(text: str) -> int:
    """A time of an option, RFC 3339 with its zone, as Unix ms; for argparse."""
    moment = dt.datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("say the time zone: 2026-11-22T00:00:00Z")
    return round(moment.timestamp() * 1000)


def run_job(job: BatchJob[Any], args: argparse.Namespace, settings: Settings) -> int:
    """Runs the job as the options say and prints its report to standard output; 0."""
    now_ms = SystemClock().now_ms()
    only = getattr(args, "table", None)
    if left_out := getattr(args, "left_out", None):
        only = [table for table in job.tables if table not in left_out]
    report = execute(job, table_store(settings), now_ms, dry_run=args.dry_run, only=only)
    print(json.dumps(report.as_json()) if args.json else "\n".join(report.lines()))  # noqa: T201
    return 0


def main(parser: argparse.ArgumentParser, make: MakeJob, argv: Sequence[str] | None = None) -> int:
    """The main of a script in jobs/: adds --home, --config and the options of every job. Exit
    status: 0 done, 1 refused or failed with a reason on standard error, 2 wrong usage.
    """
    parser.add_argument("--home", type=Path, metavar="DIR", help="data folder (default: .varve)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
    add_options(parser)
    args = parser.parse_args(argv)
    try:
        settings, _ = load(args.config, overrides={"home": args.home})
        configure_for(settings)
        return run_job(make(args, settings), args, settings)
    except VarveError as err:
        print(f"{parser.prog}: {err}", file=sys.stderr)  # noqa: T201
        return 1
