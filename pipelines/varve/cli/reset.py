"""`varve reset`: delete what a home holds, or put back positions that lie in the future."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.cli import reset_positions
from varve.model.errors import NeedsOperator
from varve.services.home import Home
from varve.settings import Settings


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Deletes the data of a home: tables, the broker's messages, logs. It lists what it will delete.
Software, settings, limits.toml, what links lead to and tables kept elsewhere (storage.root)
stay. Refuses a folder that Varve did not make, and a home that a `varve up` has.

`varve reset positions` deletes nothing: it puts back completeness and frontiers that a wrong
clock has left in the future, and needs --yes, too.
"""
    parser.epilog = """\
examples:
  varve reset                      shows what there is, and asks
  varve reset --home /data/varve --yes
  varve reset positions            shows which positions lie in the future
"""
    parser.add_argument(
        "what", nargs="?", choices=["positions"], help="only put back positions; deletes nothing"
    )
    parser.add_argument("--yes", action="store_true", help="do not ask")


def run(args: argparse.Namespace, settings: Settings) -> int:
    if args.what == "positions":
        return reset_positions.run(settings, yes=args.yes)
    home = Home.at(settings.home)
    if not home.parts():
        print(f"nothing to delete in {home.path}")
        return 0
    with home.held():
        sizes = home.parts()
        print(f"in {home.path}:")
        for name, size in sizes.items():
            print(f"  {name:<20} {size / 2**20:>10,.1f} MiB{_of_link(home.path / name)}")
        if settings.storage.root:
            print(f"  the tables in {settings.storage.root} stay")
        if not args.yes and not _agreed():
            print("nothing was deleted")
            return 1
        home.delete_data()
        print(f"deleted {sum(sizes.values()) / 2**20:,.1f} MiB")
    return 0


def _of_link(part: Path) -> str:
    return f"  (a link: what is in {part.readlink()} stays)" if part.is_symlink() else ""


def _agreed() -> bool:
    if not sys.stdin.isatty():
        raise NeedsOperator("nobody is there to ask: say --yes to delete all this")
    return input("Delete all of it? [y/N] ").strip().lower() in {"y", "yes"}
