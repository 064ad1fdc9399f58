"""Entry point: finds the subcommand, loads the settings, prints errors as one line."""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varve import __version__
from varve.cli.terminal import printable, printed
from varve.model.errors import NeedsOperator, VarveError
from varve.services.supervised import NEEDS_OPERATOR

if TYPE_CHECKING:
    from varve.settings import Settings

# What only reads: a home that is not there is no empty one.
_READERS = frozenset(
    {
        "status",
        "query",
        "sql",
        "cardinality",
        "rollup",
        "delete",
        "capacity",
        "anomalies",
        "backup",
        "usage",
    }
)

_LONG_RUNNING = frozenset({"up", "serve"})
# Errors may have lines and a place in a query that they point at.
_KEPT = "\n\t"

DESCRIPTION = """\
Varve: metrics through Kafka and Spark into open Delta tables, answered by PromQL and SQL.

Start here:
  varve up --demo          run everything on this machine, with generated history
  varve query 'up'         ask in PromQL, in another terminal
  varve sql 'FROM metrics_1m LIMIT 5'
"""

# Subcommand, module, one line. Modules are imported when used, so that help is instant.
COMMANDS = (
    ("up", "varve.cli.up", "run the whole platform on this machine"),
    ("status", "varve.cli.status", "what runs, how far it is, what it refused"),
    ("query", "varve.cli.query", "evaluate a PromQL expression: a table or a plot"),
    ("sql", "varve.cli.sql", "run SQL over the tables and views, without Java"),
    ("cardinality", "varve.cli.cardinality", "where series come from; how much of limits is used"),
    ("usage", "varve.cli.usage", "what stored bytes are spent on, and what would save some"),
    ("anomalies", "varve.cli.anomalies", "episodes far from what is usual; say what they were"),
    ("capacity", "varve.cli.capacity", "which resources run out within a week, by their forecasts"),
    ("rules", "varve.cli.rules", "check files of rules; run tests of them"),
    ("import", "varve.cli.import_history", "send the history in files through a gateway"),
    ("ingest", "varve.cli.ingest", "park a message that stops ingest"),
    ("backup", "varve.cli.backup", "copy all tables, as of one moment, while everything goes on"),
    ("restore", "varve.cli.restore", "make an empty home of a backup"),
    ("delete", "varve.cli.delete", "delete samples of some series from every table"),
    ("rollup", "varve.cli.rollup", "how complete the tiers are; check them against raw samples"),
    ("notify", "varve.cli.notify", "check an alertmanager.yml"),
    ("serve", "varve.cli.serve", "run one service in the foreground"),
    ("config", "varve.cli.config", "print the settings in force and where they came from"),
    ("reset", "varve.cli.reset", "delete the data of a home"),
)


def main(argv: list[str] | None = None) -> int:
    """Runs a command.

    Returns 0 if done, 1 if refused or failed with a reason on stderr; exits with 2 for wrong usage.
    A service that cannot run until somebody changes something ends with 78.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        prog="varve", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--version", action="version", version=f"varve {__version__}")
    subparsers = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    wanted = next((a for a in arguments if not a.startswith("-")), None)
    modules: dict[str, Any] = {}
    for name, module, summary in COMMANDS:
        sub = subparsers.add_parser(
            name, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        sub.add_argument(
            "--home", type=_folder, metavar="DIR", help="data folder (default: .varve)"
        )
        sub.add_argument("--config", type=Path, metavar="FILE", help="settings file (TOML)")
        if name == wanted:
            modules[name] = importlib.import_module(module)
            modules[name].configure(sub)
    args = parser.parse_args(arguments)
    try:
        module = modules[args.command]
        if hasattr(module, "runs_without_settings") and module.runs_without_settings(args):
            return _run(module, args, None)
        from varve.settings import load

        given = module.overrides(args) if hasattr(module, "overrides") else {}
        settings, origins = load(args.config, overrides={"home": args.home, **given})
        args.origins = origins
        if args.command in _READERS and getattr(args, "url", None) is None:
            from varve.services.home import require_data

            require_data(settings)
        return _run(module, args, settings)
    except VarveError as err:
        print(f"varve {args.command}: {printable(str(err), keep=_KEPT)}", file=sys.stderr)
        return _status_of(err, args.command)
    except OSError as err:
        if args.command in _LONG_RUNNING:
            raise  # where it comes from is worth a line of the log
        print(f"varve {args.command}: {printable(str(err))}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(module: Any, args: argparse.Namespace, settings: Settings | None) -> int:
    if args.command in _LONG_RUNNING:
        return int(module.run(args, settings))
    return printed(lambda: int(module.run(args, settings)))


def _status_of(err: VarveError, command: str) -> int:
    if command == "serve" and isinstance(err, NeedsOperator):
        return NEEDS_OPERATOR
    return 1


def _folder(text: str) -> Path:
    """An empty text would be the current folder, whatever is in it."""
    if not text.strip():
        raise argparse.ArgumentTypeError("it is empty: name a folder")
    return Path(text)
