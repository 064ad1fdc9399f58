"""`varve restore`: makes an empty home of a backup."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from varve.cli.copy_progress import copy_progress
from varve.maintenance.restore import choose, restore_backup
from varve.services.home import Home
from varve.services.progress import backup_store, table_store
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Restores the tables of a backup into a home, or storage.root, that has none. Then `varve up` (or the
jobs) goes on from there: ingest reads from Kafka what came after the backup, as far as Kafka still
has it. A restore that was cut off goes on when it is run again.
"""
    parser.epilog = """\
examples:
  varve restore /mnt/backup/varve --home /data/new
  varve restore s3://backups/varve --backup 20261127T030000Z --config varve.toml
"""
    parser.add_argument("source", metavar="SOURCE", help="folder or s3://bucket/prefix of backups")
    parser.add_argument("--backup", metavar="ID", help="which backup (default: the newest)")
    parser.add_argument("--json", action="store_true", help="the report as one line of JSON")


def run(args: argparse.Namespace, settings: Settings) -> int:
    source = backup_store(settings, args.source)
    backup = choose(source, args.backup)
    home = Home.at(settings.home)
    with home.held():
        done = restore_backup(source, table_store(settings), backup, copy_progress())
        home.mark()
    if args.json:
        print(json.dumps(asdict(done)))
        return 0
    print(
        f"backup {backup.backup_id} is restored: {len(backup.tables)} tables,"
        f" {backup.files:,} files of {backup.nbytes:,} bytes"
    )
    return 0
