"""`varve capacity`: which resources run out within a week, by their forecasts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from varve.cli.table import table
from varve.forecast.report import HEAD, as_html, capacity_report, cells
from varve.model.clock import SystemClock
from varve.services.progress import table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Lists the resources of capacity.toml by the days they have left, as they were last forecast
(`varve up`, or jobs/forecast.py). Reads the tables alone: nothing has to run.
"""
    parser.epilog = """\
examples:
  varve capacity
  varve capacity --html capacity.html
"""
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="the report as JSON")
    form.add_argument("--html", type=Path, metavar="FILE", help="write it as a page of its own")


def run(args: argparse.Namespace, settings: Settings) -> int:
    now_ms = SystemClock().now_ms()
    lines = capacity_report(table_store(settings), now_ms)
    if args.json:
        print(json.dumps([line.as_json() for line in lines]))
    elif args.html is not None:
        args.html.write_text(as_html(lines, now_ms), encoding="utf-8")
        print(f"written to {args.html}")
    elif not lines:
        print(
            "nothing is forecast yet: capacity.toml selects what is, once it has two days of hours"
        )
    else:
        print("\n".join(table(HEAD, map(cells, lines))))
    return 0
