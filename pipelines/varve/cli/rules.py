"""`varve rules`: checks and tests files of rules as promtool does, and runs them over the past."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from varve.cli import rules_backtest

if TYPE_CHECKING:
    from varve.settings import Settings

_LINTS = ("all", "duplicate-rules", "none")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Checks files of recording and alerting rules, and runs tests of them. Formats, options and
statuses are promtool's: 0 if all is well, 1 if not, 3 if only --lint-fatal found something.
"""
    parser.epilog = """\
examples:
  varve rules check conf/alerts.yml
  varve rules test tests/*_test.yml
  varve rules backtest conf/alerts.yml --from 6h --notify conf/alertmanager.yml
"""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    check = actions.add_parser("check", help="say what is wrong with files of rules")
    check.add_argument("files", nargs="*", type=Path, metavar="FILE", help="default: stdin")
    check.add_argument("--lint", choices=_LINTS, default="duplicate-rules")
    check.add_argument(
        "--lint-fatal", action="store_true", help="end with 3 if the lint finds some"
    )
    test = actions.add_parser("test", help="run tests of rules")
    test.add_argument("files", nargs="+", type=Path, metavar="FILE")
    test.add_argument(
        "--run", action="append", default=[], metavar="REGEX", help="only tests of such a name"
    )
    test.add_argument("--diff", action="store_true", help="show what differs line by line")
    test.add_argument("--debug", action="store_true", help="say which time is evaluated")
    test.add_argument("--junit", type=Path, metavar="FILE", help="write the outcome as JUnit XML")
    rules_backtest.add_options(
        actions.add_parser("backtest", help="say what rules would have done in the past")
    )
    for action in (check, test):
        action.add_argument(
            "--ignore-unknown-fields", action="store_true", help="of files of rules"
        )


def runs_without_settings(args: argparse.Namespace) -> bool:
    """Whether it only reads the files that are named."""
    return args.action != "backtest"


def run(args: argparse.Namespace, settings: Settings | None) -> int:
    """settings: None only if `runs_without_settings`."""
    if args.action == "backtest":
        assert settings is not None  # noqa: S101 - the others run without
        return rules_backtest.run(args, settings)
    if args.action == "check":
        from varve.cli import rules_check

        return rules_check.run(args)
    from varve.cli import rules_test

    return rules_test.run(args)
