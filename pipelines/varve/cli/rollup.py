"""`varve rollup`: how complete the tiers are, and whether they are what the samples say."""

from __future__ import annotations

import argparse
import datetime as dt
import re
import time

from varve.cli.home_options import add_home_options
from varve.model.clock import utc_text
from varve.model.errors import BadRequest
from varve.model.window import TIERS, Window, tier_named
from varve.rollups.completeness import CompletenessReader, TierCompleteness
from varve.rollups.verify import verify
from varve.services.progress import table_store
from varve.settings import Settings
from varve.storage import positions
from varve.storage.store import Store

# Differences, and pending ranges of a tier, that are printed at most.
_MOST = 20
_AGO = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)([smhd])", re.ASCII)
_UNITS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Says how far each rollup tier is closed and which windows wait for repair, or checks their rows
against the raw samples. Reads the tables alone: nothing has to run.
"""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    status = commands.add_parser(
        "status",
        help="how far each tier is and where late samples wait for their repair",
        description="Reads the tables alone: nothing has to run.",
    )
    check = commands.add_parser(
        "verify",
        help="recompute rows from raw samples and print what differs",
        description="""\
Recomputes the windows of a range from the raw samples and compares every bit with the rows
stored. Windows whose late samples wait for their repair are left out and counted. Exit status 1
if anything differs.""",
    )
    check.add_argument(
        "--from", dest="start", metavar="TIME", required=True, help="start of the range"
    )
    check.add_argument(
        "--to", dest="end", metavar="TIME", default="0s", help="its end (default: now)"
    )
    check.add_argument(
        "--tier",
        choices=[t.name for t in TIERS],
        action="append",
        help="this tier only; may be repeated (default: all)",
    )
    for command in (status, check):
        add_home_options(command)
    check.epilog = "TIME: 2026-11-22T09:00:00Z (no offset: UTC), or how long ago: 90s, 15m, 6h, 2d"
    parser.epilog = "examples:\n  varve rollup status\n  varve rollup verify --from 6h --tier 1m\n"


def run(args: argparse.Namespace, settings: Settings) -> int:
    store = table_store(settings)
    now_ms = time.time_ns() // 1_000_000
    return _verify(args, store, now_ms) if args.action == "verify" else _status(store, now_ms)


def _status(store: Store, now_ms: int) -> int:
    reader = CompletenessReader(store)
    tiers = reader.refresh()
    for name, at_ms in sorted(reader.positions.items()):
        if name.startswith(positions.COMPLETE):
            query = name.removeprefix(positions.COMPLETE)
            print(
                f"input {query:<8}  complete until {utc_text(at_ms)}  {_from_now(now_ms - at_ms)}"
            )
    for tier in tiers:
        print(_line(tier, now_ms))
        for window in tier.pending[:_MOST]:
            print(f"         pending  {utc_text(window.start_ms)} to {utc_text(window.end_ms)}")
        if len(tier.pending) > _MOST:
            print(f"         and {len(tier.pending) - _MOST} more ranges")
    return 0


def _line(found: TierCompleteness, now_ms: int) -> str:
    name = found.tier.name
    if found.frontier_ms is None:
        return f"tier {name:<3}  nothing closed yet"
    behind = _from_now(now_ms - found.frontier_ms)
    text = f"tier {name:<3}  closed until {utc_text(found.frontier_ms)}  {behind}"
    if found.pending:
        text += f"  {found.late_windows} late windows in {len(found.pending)} ranges"
    return text


def _verify(args: argparse.Namespace, store: Store, now_ms: int) -> int:
    start, end = _moment(args.start, now_ms), _moment(args.end, now_ms)
    if start >= end:
        raise BadRequest(f"--from {args.start} is not before --to {args.end}")
    tiers = [tier_named(name) for name in args.tier] if args.tier else TIERS
    report = verify(store, Window(start, end), tiers)
    for tier in tiers:
        wrong = sum(d.tier == tier.name for d in report.differences)
        left_out = sum(w.end_ms - w.start_ms for w in report.left_out[tier.name])
        print(
            f"tier {tier.name:<3}  {report.rows[tier.name]} rows compared, {wrong} differences"
            + (f", {_ago(left_out)} left out: late samples wait for repair" if left_out else "")
        )
    for found in report.differences[:_MOST]:
        print(
            f"  {found.tier} series {found.series_id} window_end {found.window_end}"
            f" {found.column}: stored {found.stored!r}, from raw {found.computed!r}"
        )
    if len(report.differences) > _MOST:
        print(f"  and {len(report.differences) - _MOST} more")
    return 1 if report.differences else 0


def _moment(text: str, now_ms: int) -> int:
    if ago := _AGO.fullmatch(text):
        return now_ms - int(float(ago[1]) * _UNITS[ago[2]])
    try:
        moment = dt.datetime.fromisoformat(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=dt.UTC)
        return int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        raise BadRequest(
            f"{text!r} is no time: write 2026-11-22T09:00:00Z, or 6h for six hours ago"
        ) from None


def _from_now(ago_ms: int) -> str:
    return f"{_ago(ago_ms)} ago" if ago_ms >= 0 else f"{_ago(-ago_ms)} ahead"


def _ago(ms: int) -> str:
    seconds = ms // 1000
    for unit, size in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if abs(seconds) >= 2 * size:
            return f"{seconds / size:.1f}{unit}"
    return f"{seconds}s"
