"""`varve import`: history from files, by way of a gateway."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import httpx

from varve.cli.import_old_samples import old_part, old_part_of_file
from varve.gateway.importing.sender import ImportSender, Outcome
from varve.gateway.importing.sources import Part
from varve.gateway.importing.tsdb.block import TsdbBlock, block_folders
from varve.gateway.importing.tsdb.index import DamagedBlock
from varve.model.errors import BadRequest
from varve.settings import Settings

_PROGRESS_S = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Sends the samples of files to a gateway, which must run, and through it into the tables. It takes

- folders: blocks of a Prometheus, or the whole folder of its data or of a snapshot of it. What is
  not in a block yet, the last two to three hours, is not read: take a snapshot for it
  (POST /api/v1/admin/tsdb/snapshot);
- OpenMetrics text with a time on every sample (.om, .openmetrics, .prom, .txt);
- Parquet (.parquet) with the columns metric, ts and value, and perhaps tags (a map), type, unit
  and help.

It waits while the gateway is overloaded or away. A run that was interrupted goes on where it was;
what is sent twice is stored once, since copies of a series and time merge.

Samples that are older than four fifths of retention.samples_days, which a gateway refuses, go
straight into the tables: as rows of the finest rollups that are kept for so long. For that it must
run where the settings say the tables are, and without --gateway. Give it the folder of all blocks,
not one block after the other: a window that two share is then computed from both. Old native
histograms are refused and counted: there are no rollups of them.
"""
    parser.epilog = """\
examples:
  varve import /var/lib/prometheus/data --dry-run
  varve import history.om --dry-run
  varve import history.om more.parquet --gateway https://metrics:9693 --token-file token
"""
    parser.add_argument("files", nargs="+", type=Path, metavar="PATH")
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
        for path in args.files:
            for name, outcome in _sent(sender, path, args, settings):
                refused += outcome.refused
                _show(name, outcome, dry_run=args.dry_run)
    return 1 if refused else 0


def _sent(
    sender: ImportSender, path: Path, args: argparse.Namespace, settings: Settings
) -> Iterator[tuple[str, Outcome]]:
    """Sends a file, or the blocks of a folder one after the other."""
    dry_run = args.dry_run
    if not path.is_dir():
        shown = _Progress(str(path))
        if args.gateway:
            yield str(path), sender.send(path, shown, dry_run=dry_run)
            return
        with old_part_of_file(path, settings, _say) as (rows, old_samples):
            yield str(path), sender.send(path, shown, dry_run=dry_run, old=rows)
            if rows.samples:
                yield old_samples.name, old_samples.bring(dry_run=dry_run)
        return
    try:
        folders = block_folders(path)
        if not folders:
            raise BadRequest(f"{path} is no block of a Prometheus, nor has it any in it")
        old = old_part(folders, settings, _say)
        after_ms = None
        if old and args.gateway:
            _say(
                "samples that are too old for a gateway will be refused: without --gateway, where"
                " the tables are, they go into the rollups"
            )
        elif old:
            after_ms = old.until_ms
            yield old.name, old.bring(dry_run=dry_run)
        for number, folder in enumerate(folders, 1):
            block = TsdbBlock(folder)
            name = f"block {block.ulid}, {number} of {len(folders)}, {_span(block)}"
            shown = _Progress(name)
            yield name, sender.send_block(block, shown, dry_run=dry_run, after_ms=after_ms)
    except (DamagedBlock, OSError) as err:
        raise BadRequest(str(err)) from err


def _span(block: TsdbBlock) -> str:
    ends = (datetime.fromtimestamp(ms / 1000, UTC) for ms in (block.begin_ms, block.end_ms))
    return " to ".join(end.strftime("%Y-%m-%d %H:%M") for end in ends)


class _Progress:
    """Says how far a file or block is, once a second."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._said_s = time.monotonic()

    def __call__(self, part: Part) -> None:
        now_s = time.monotonic()
        if now_s - self._said_s >= _PROGRESS_S and part.total:
            self._said_s = now_s
            _say(f"{self._name}: {100 * part.done / part.total:.0f} %")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _show(name: str, outcome: Outcome, *, dry_run: bool) -> None:
    verb = "would be taken" if dry_run else "taken"
    parts = [f"{outcome.taken:,} samples {verb}"]
    if outcome.skipped:
        parts.append(f"{outcome.skipped:,} were taken by an earlier run")
    if outcome.refused:
        parts.append(f"{outcome.refused:,} refused")
    print(f"{name}: {', '.join(parts)}")
    for problem in outcome.problems:
        _say(f"  {problem}")
