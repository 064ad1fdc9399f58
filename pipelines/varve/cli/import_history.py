"""`varve import`: history from files, by way of a gateway."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import httpx

from varve.gateway.importing.sender import ImportSender, Outcome
from varve.gateway.importing.sources import Block
from varve.model.errors import BadRequest
from varve.settings import Settings

_PROGRESS_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Sends the samples of files to a gateway, which must run, and through it into the tables. Files are
OpenMetrics text with a time on every sample (.om, .openmetrics, .prom, .txt), as `promtool tsdb
dump-openmetrics` writes it, or Parquet (.parquet) with the columns metric, ts and value, and
perhaps tags (a map), type, unit and help.

It waits while the gateway is overloaded or away. A run that was interrupted goes on where it was;
a file that is sent twice is stored once, since copies of a series and time merge. Samples older
than four fifths of retention.samples_days are refused and counted: set that as far back as the
history reaches before you import it.
"""
    parser.epilog = """\
examples:
  varve import history.om --dry-run
  varve import history.om more.parquet --gateway https://metrics:9693 --token-file token
"""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    parser.add_argument("--gateway", metavar="URL", help="its address (default: of the settings)")
    parser.add_argument("--token-file", type=Path, metavar="FILE", help="file of a bearer token")
    parser.add_argument("--ca-file", type=Path, metavar="FILE", help="who signs its certificate")
    parser.add_argument("--dry-run", action="store_true", help="read and check, send nothing")


def run(args: argparse.Namespace, settings: Settings) -> int:
    headers = {}
    verify: bool | str = True
    try:
        if args.token_file:
            headers["authorization"] = f"Bearer {args.token_file.read_text().strip()}"
        for file in (*args.files, *([args.ca_file] if args.ca_file else [])):
            file.stat()
    except OSError as err:
        raise BadRequest(f"{err.filename}: {err.strerror}") from err
    if args.ca_file:
        verify = str(args.ca_file)
    url = args.gateway or settings.gateway.url()
    refused = 0
    with httpx.Client(base_url=url, headers=headers, verify=verify, trust_env=False) as client:
        sender = ImportSender(client, settings.home / "imports", _say)
        for file in args.files:
            outcome = sender.send(file, _Progress(file), dry_run=args.dry_run)
            refused += outcome.refused
            _show(file, outcome, dry_run=args.dry_run)
    return 1 if refused else 0


class _Progress:
    """Says how far a file is, once a second."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._said_s = time.monotonic()

    def __call__(self, block: Block) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= _PROGRESS_S and block.total:
            self._said_s = now_s
            _say(f"{self._file}: {100 * block.done / block.total:.0f} %")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(file: Path, outcome: Outcome, *, dry_run: bool) -> None:
    verb = "would be sent" if dry_run else "sent"
    parts = [f"{outcome.taken:,} samples {verb}"]
    if outcome.skipped:
        parts.append(f"{outcome.skipped:,} were sent by an earlier run")
    if outcome.refused:
        parts.append(f"{outcome.refused:,} refused")
    print(f"{file}: {', '.join(parts)}")
    for problem in outcome.problems:
        _say(f"  {problem}")
