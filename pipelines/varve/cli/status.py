"""`varve status`: what runs, how far it is, what it refused. Without Spark."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator

from varve.cli.table import table
from varve.model.clock import SystemClock, utc_text
from varve.services.overview import Overview, overview
from varve.settings import Settings

NOT_RUNNING = 3
"""The exit status if something does not run, as systemctl's."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Prints the components of a home, how many messages wait to be stored, the newest sample,
how far each rollup is closed, and what was refused, by reason. Reads status files, Kafka
and the tables' logs; needs nothing to run.

Exit status: 0 if all runs, 1 if there is nothing to ask, 3 if something does not run (or
nothing does): the home is degraded, starting or stopped.
"""
    parser.epilog = """\
examples:
  varve status
  varve status --home /data/varve --json
"""
    parser.add_argument("--json", action="store_true", help="as JSON, lag by partition")


def run(args: argparse.Namespace, settings: Settings) -> int:
    seen = overview(settings)
    if args.json:
        print(json.dumps(seen.as_json(), indent=2))
    else:
        print("\n".join(_lines(seen, SystemClock().now_ms())))
    return 0 if _all_runs(seen) else NOT_RUNNING


def _all_runs(seen: Overview) -> bool:
    """Whether `varve up` says so; where none was started, whether each service does.

    What runs for tables elsewhere is not in this home: of them it is enough that they are there.
    """
    states = {component.name: component.state for component in seen.components}
    if not states:
        return bool(seen.elsewhere and seen.progress)
    if "up" in states:
        return states["up"] == "ready"
    return set(states.values()) == {"ready"}


def _lines(seen: Overview, now_ms: int) -> Iterator[str]:
    yield f"home {seen.home}"
    if seen.elsewhere:
        yield f"tables {seen.elsewhere}"
    if not seen.components and not seen.elsewhere:
        yield "nothing has run here: start with `varve up`"
    elif not seen.components:
        yield "no component runs from this home"
    else:
        rows = [
            (c.name, c.state, str(c.pid or ""), _span(c.up_ms), str(c.restarts), c.note)
            for c in seen.components
        ]
        yield ""
        yield from table(("component", "state", "pid", "up for", "restarts", ""), rows)
    yield ""
    if seen.lag is None:
        yield f"lag           unknown: {seen.lag_unknown}"
    for query, messages in seen.lag_by_query().items():
        yield f"lag           {messages:,} messages ({query})"
    progress = seen.progress
    if progress is None:
        yield f"tables        {seen.progress_unknown}"
        return
    yield f"newest sample {_time(progress.newest_ms, now_ms)}"
    for query, at_ms in progress.complete_ms.items():
        yield f"complete      {_time(at_ms, now_ms)} ({query})"
    for tier, at_ms in progress.frontier_ms.items():
        yield f"closed {tier:<6} {_time(at_ms, now_ms)}"
    yield ""
    stored = [(name, f"{count:,}") for name, count in progress.rows.items()]
    yield from table(("table", "rows"), stored)
    yield ""
    if not progress.rejected:
        yield "nothing was refused"
        return
    refused = [(reason, f"{count:,}") for reason, count in progress.rejected.items()]
    yield from table(("refused", "samples"), refused)


def _time(ms: int | None, now_ms: int) -> str:
    if ms is None:
        return "none yet"
    when = utc_text(ms)
    ago = now_ms - ms
    return f"{when} ({_span(ago)} ago)" if ago >= 0 else f"{when} ({_span(-ago)} ahead)"


def _span(ms: int | None) -> str:
    """A length of time in its two greatest units."""
    if ms is None:
        return ""
    seconds = ms // 1000
    for unit, size, below, small in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60)):
        if seconds >= size:
            return f"{seconds // size} {unit} {seconds % size // small} {below}"
    return f"{seconds // 60} min {seconds % 60} s" if seconds >= 60 else f"{seconds} s"
