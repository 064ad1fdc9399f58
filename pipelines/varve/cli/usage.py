"""`varve usage`: what the stored bytes are spent on, and what less of something would save."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from varve.cli.table import table
from varve.ingest.limits import LimitsFile
from varve.model.errors import BadRequest
from varve.query.storage_usage import Usage, as_json, usage
from varve.services.limits import limits_files
from varve.services.progress import prices, table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints what tables, metrics and labels take and cost in a month, at the prices of [usage] in the
settings, and what a shorter retention, a label less or a limit that is kept to would save. Sizes of
tables are exact; bytes of metrics and labels are shared out by rows. Reads the tables alone:
nothing has to run. The page shows the same, and GET /api/v1/status/usage gives it.
"""
    parser.epilog = """\
examples:
  varve usage
  varve usage --top 50 --json
  VARVE_USAGE__HOT_PRICE=0.11 VARVE_USAGE__CURRENCY=EUR varve usage
"""
    parser.add_argument("--top", type=int, default=10, metavar="N", help="rows a list (default 10)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.top < 1:
        raise BadRequest(f"--top {args.top} is not at least 1")
    limits = LimitsFile(limits_files(settings)).current()
    found = usage(table_store(settings), prices(settings), limits, args.top)
    print(json.dumps(as_json(found), indent=2) if args.json else "\n".join(_lines(found)))
    return 0


def _lines(found: Usage) -> Iterator[str]:
    money = found.currency
    yield (
        f"{_size(found.bytes)}, {found.cost:,.2f} {money} a month; {found.samples:,} raw samples,"
        f" {found.series:,} series ever registered"
    )
    yield ""
    yield from table(
        ("table", "root", "files", "rows", "size", "bytes a row", f"{money} a month"),
        (
            (
                *(use.table, use.root, f"{use.files:,}", f"{use.rows:,}", _size(use.bytes)),
                *(f"{use.bytes / use.rows:.2f}" if use.rows else "", f"{use.cost:,.4f}"),
            )
            for use in found.tables
        ),
    )
    yield ""
    yield from table(
        ("metric", "series", "samples", "size", f"{money} a month"),
        (
            (u.metric, f"{u.series:,}", f"{u.samples:,}", _size(u.bytes), f"{u.cost:,.4f}")
            for u in found.metrics
        ),
    )
    yield ""
    yield from table(
        ("label", "values", "series", "without it", "size", f"{money} a month"),
        (
            (
                *(u.label, f"{u.values:,}", f"{u.series:,}", f"{u.series_without:,}"),
                *(_size(u.bytes), f"{u.cost:,.4f}"),
            )
            for u in found.labels
        ),
    )
    yield ""
    if found.savings:
        yield from table(
            ("what would save", "size", f"{money} a month"),
            ((s.what, _size(s.bytes), f"{s.cost:,.4f}") for s in found.savings),
        )
    else:
        yield "nothing that is worth telling would save anything yet"


def _size(nbytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000:
            return f"{nbytes:,.0f} {unit}" if unit == "B" else f"{nbytes:,.1f} {unit}"
        nbytes /= 1000
    return f"{nbytes:,.1f} TB"
