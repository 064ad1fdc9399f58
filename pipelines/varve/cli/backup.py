"""`varve backup`: a consistent copy of all tables, while everything goes on."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict

from varve.cli.copy_progress import copy_progress
from varve.cli.table import table
from varve.maintenance.backup import Backup, as_json, list_backups, take_backup
from varve.maintenance.backup_pruning import prune
from varve.model.clock import SystemClock, utc_text
from varve.model.errors import BadRequest
from varve.services.progress import backup_store, table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Copies all tables, as of one moment, with how far everything is, to a folder or a bucket, while
everything goes on. Only files that no earlier backup has copied are copied. A backup that was cut
off is none; the next goes on where it was. `varve restore` makes an empty home of one.

Not in it: your settings and limits.toml, Kafka, and what the notifier keeps (silences).
"""
    parser.epilog = """\
examples:
  varve backup /mnt/backup/varve
  varve backup s3://backups/varve --keep 14      credentials: storage.backup_options
  varve backup /mnt/backup/varve --list
"""
    parser.add_argument("target", metavar="TARGET", help="folder or s3://bucket/prefix of backups")
    parser.add_argument(
        "--keep", type=int, metavar="N", help="then delete all backups but the newest N"
    )
    parser.add_argument("--list", action="store_true", help="list the backups there are, take none")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.keep is not None and args.keep < 1:
        raise BadRequest(f"--keep {args.keep} is not at least 1")
    target = backup_store(settings, args.target)
    if args.list:
        there = list_backups(target)
        print(json.dumps(as_json(there)) if args.json else "\n".join(_listed(there)))
        return 0
    clock = SystemClock()
    taken = take_backup(table_store(settings), target, clock, copy_progress())
    pruned = prune(target, args.keep, clock.now_ms()) if args.keep is not None else 0
    if args.json:
        print(json.dumps(asdict(taken) | {"pruned_files": pruned}))
        return 0
    backup = taken.backup
    how = "one moment" if backup.is_one_moment else "a moment for each table, in their order"
    print(
        f"backup {backup.backup_id}: {backup.files:,} files of {backup.nbytes:,} bytes as of {how};"
        f" {taken.copied_files:,} files of {taken.copied_bytes:,} bytes were copied"
    )
    if pruned:
        print(f"{pruned:,} files that no backup needs any more are deleted")
    return 0


def _listed(there: list[Backup]) -> Iterator[str]:
    if not there:
        yield "no backups there"
        return
    yield from table(
        ("backup", "begun", "files", "bytes"),
        (
            (b.backup_id, utc_text(b.begun_ms), f"{b.files:,}", f"{b.nbytes:,}")
            for b in reversed(there)
        ),
    )
