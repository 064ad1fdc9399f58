"""`varve anomalies`: episodes, what people say of them, and how good the rules are."""

from __future__ import annotations

import argparse
import json
from typing import Any

from varve.anomaly.episode_rows import EPISODES, named_series, newest_episodes
from varve.anomaly.labels import EXPECTED, LABELS, REAL, labels, put_label, quality
from varve.cli.home_options import add_home_options
from varve.cli.table import table
from varve.model.clock import SystemClock, utc_text
from varve.model.identity import canonical
from varve.model.window import HOUR_MS
from varve.services.progress import table_store
from varve.settings import Settings
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

_ID = 8


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Lists episodes: stretches of minutes in which a series was far from what is usual for it. Takes what
you know of them, and says how good the rules of anomalies.toml are by that.
"""
    parser.epilog = """\
examples:
  varve anomalies list --hours 24
  varve anomalies label 3f9a2c41 expected    a deployment, a backup: nothing to be told of
  varve anomalies quality                    precision of each rule, and a better threshold
"""
    commands = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    listed = commands.add_parser("list", help="episodes, the newest first")
    listed.add_argument("--hours", type=float, default=72, help="of the last hours (default: 72)")
    label = commands.add_parser("label", help="say what an episode was")
    label.add_argument("episode", help="its identity, or the beginning of it")
    label.add_argument("label", choices=[EXPECTED, REAL])
    good = commands.add_parser("quality", help="precision of the rules by labelled episodes")
    for command in (listed, good):
        command.add_argument("--json", action="store_true", help="as JSON")
    for command in (listed, label, good):
        add_home_options(command)


def run(args: argparse.Namespace, settings: Settings) -> int:
    store = table_store(settings)
    if args.action == "label":
        create_tables(store, (LABELS,))
        row = put_label(store, args.episode, args.label, SystemClock().now_ms())
        print(f"{row['episode_id']} is {args.label}")
        return 0
    since = None
    if args.action == "list":
        since = SystemClock().now_ms() - int(args.hours * HOUR_MS)
    rows = newest_episodes(snapshot(store, EPISODES), since_ms=since)
    said = labels(store)
    return (
        _quality(rows, said, args) if args.action == "quality" else _list(store, rows, said, args)
    )


def _list(
    store: Store, rows: list[dict[str, Any]], said: dict[str, str], args: argparse.Namespace
) -> int:
    named = named_series(store, {row["series_id"] for row in rows})
    rows = sorted(rows, key=lambda row: -row["starts_at"])
    for row in rows:
        metric, tags = named.get(row["series_id"], (str(row["series_id"]), {}))
        row |= {"series": canonical(metric, tags), "label": said.get(row["episode_id"])}
        row.pop("key")
    if args.json:
        print(json.dumps(rows))
    elif not rows:
        print(f"no episode in the last {args.hours:g} hours")
    else:
        head = ("episode", "since", "minutes", "state", "severity", "score", "series", "label")
        print("\n".join(table(head, map(_cells, rows))))
    return 0


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["episode_id"][:_ID],
        utc_text(row["starts_at"]),
        str(row["windows"]),
        row["state"],
        row["severity"],
        f"{row['score']:+.1f}",
        row["series"],
        row["label"] or "",
    )


def _quality(rows: list[dict[str, Any]], said: dict[str, str], args: argparse.Namespace) -> int:
    found = quality(rows, said)
    if args.json:
        print(
            json.dumps(
                [
                    {
                        "rule": q.rule,
                        "episodes": q.episodes,
                        "real": q.real,
                        "expected": q.expected,
                        "precision": q.precision,
                        "threshold": q.threshold,
                    }
                    for q in found
                ]
            )
        )
    elif not found:
        print("no episode yet")
    else:
        head = ("rule", "episodes", "real", "expected", "precision", "better threshold")
        print("\n".join(table(head, (_quality_cells(q) for q in found))))
    return 0


def _quality_cells(q: Any) -> tuple[str, ...]:
    precision = "" if q.precision is None else f"{q.precision:.0%}"
    threshold = "" if q.threshold is None else f"{q.threshold:.1f}"
    return (q.rule, str(q.episodes), str(q.real), str(q.expected), precision, threshold)
