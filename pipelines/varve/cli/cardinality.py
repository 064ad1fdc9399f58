"""`varve cardinality`: where series come from, what is new, how much of the limits is used."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from varve.cli.table import table
from varve.ingest.limits import UNLIMITED, LimitsFile
from varve.model.clock import SystemClock, utc_text
from varve.model.errors import BadRequest
from varve.model.window import HOUR_MS
from varve.query.cardinality import Report, report
from varve.services.limits import limits_files
from varve.services.progress import table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints the metrics with most active series, the labels with most values, what was registered in
the last hour and day, how much of the limits (limits.toml) is used and what they refused.
Reads the tables alone: nothing has to run.
"""
    parser.epilog = """\
examples:
  varve cardinality
  varve cardinality --metric http_requests_total    which of its labels has how many values
  varve cardinality --top 50 --json
"""
    parser.add_argument("--metric", metavar="NAME", help="this metric only, with examples")
    parser.add_argument("--top", type=int, default=10, metavar="N", help="rows a list (default 10)")
    parser.add_argument("--json", action="store_true", help="as JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.top < 1:
        raise BadRequest(f"--top {args.top} is not at least 1")
    store = table_store(settings)
    seen = report(
        store,
        LimitsFile(limits_files(settings)).current(),
        active_ms=int(settings.ingest.active_hours * HOUR_MS),
        now_ms=SystemClock().now_ms(),
        top=args.top,
        metric=args.metric,
    )
    if args.metric is not None and not seen.metrics:
        raise BadRequest(f"no series of {args.metric!r} are active or new")
    text = json.dumps(asdict(seen), indent=2) if args.json else _lines(seen, args.metric)
    print(text if isinstance(text, str) else "\n".join(text))
    return 0


def _lines(seen: Report, metric: str | None) -> Iterator[str]:
    if metric is None:
        yield f"{seen.active:,} active series, {_share(seen.active, seen.limit)} allowed"
        yield f"{seen.registered:,} ever registered"
    if seen.since_ms is None:
        yield "no hour is closed yet: every series counts as active"
    else:
        yield f"active: seen or registered after {utc_text(seen.since_ms)}"
    yield f"new: {seen.new_1h:,} in the last hour, {seen.new_24h:,} in the last day"
    yield ""
    yield from table(
        ("metric", "active", "of the limit", "new in 1 h", "in 24 h"),
        (
            (
                m.metric,
                f"{m.active:,}",
                _share(m.active, m.limit),
                f"{m.new_1h:,}",
                f"{m.new_24h:,}",
            )
            for m in seen.metrics
        ),
    )
    yield ""
    yield from table(
        ("label", "values", "for example"),
        ((u.label, f"{u.values:,}", ", ".join(map(_short, u.examples))) for u in seen.labels),
    )
    yield ""
    if seen.refused:
        refused = ((reason, f"{count:,}") for reason, count in seen.refused.items())
        yield from table(("limit, last 24 h", "samples refused"), refused)
    else:
        yield "no limit refused anything in the last 24 h"


def _share(used: int, limit: int) -> str:
    if limit >= UNLIMITED:
        return "no limit"
    return f"{used / limit:.1%} of {limit:,}" if limit else "of none"


def _short(text: str) -> str:
    shown = json.dumps(text, ensure_ascii=False)
    return shown if len(shown) <= 40 else f"{shown[:38]}…"
