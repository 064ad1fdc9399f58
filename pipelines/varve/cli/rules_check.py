"""`varve rules check`: what is wrong with files of rules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.cli.terminal import printable
from varve.rules.checking import duplicates, rule_count, too_long_intervals
from varve.rules.errors import RuleFileError
from varve.rules.rule_file import Group, parse_rule_file

LINT_FATAL = 3
"""Status where only the lint has found something, and it was asked to count."""


def run(args: argparse.Namespace) -> int:
    """Checks each file. Returns the status of the command."""
    failed = lint_found = False
    for path in args.files or [None]:
        name = "standard input" if path is None else str(path)
        say(f"Checking {name}")
        try:
            text = sys.stdin.read() if path is None else read_text(path)
            groups = parse_rule_file(text, name, strict=not args.ignore_unknown_fields)
        except RuleFileError as error:
            failed = True
            say("  FAILED:", to_stderr=True)
            for problem in error.problems:
                say(f"{name}: {problem}", to_stderr=True)
        except (OSError, UnicodeDecodeError) as error:
            failed = True
            say(f"  FAILED:\n{name}: {error}", to_stderr=True)
        else:
            say(f"  SUCCESS: {rule_count(groups)} rules found")
            lint_found |= _lint(groups, args.lint)
        say("")
    if failed:
        return 1
    return LINT_FATAL if lint_found and args.lint_fatal else 0


def say(text: str, *, to_stderr: bool = False) -> None:
    """Prints a text; what goes to stderr comes behind what has gone to stdout."""
    sys.stdout.flush()
    print(printable(text, keep="\n\t"), file=sys.stderr if to_stderr else sys.stdout)


def read_text(path: Path) -> str:
    """A file as UTF-8. Raises OSError or UnicodeDecodeError."""
    return path.read_bytes().decode("utf-8")


def _lint(groups: tuple[Group, ...], lint: str) -> bool:
    """Says what looks like a mistake, though it is none for sure. Returns whether anything does."""
    found = False
    if lint in ("all", "duplicate-rules"):
        twice = duplicates(groups)
        if twice:
            found = True
            say(f"  {len(twice)} duplicate rule(s) found.")
        for one in twice:
            say(f"  Metric: {one.name}\n  Label(s):")
            for label, value in one.labels:
                say(f"    {label}: {value}")
        if twice:
            say("  Might cause inconsistency while recording expressions.")
    if lint in ("all", "too-long-scrape-interval"):
        for name in too_long_intervals(groups):
            found = True
            say(f"  The interval of group {name} is longer than the lookback of 5m.")
    return found
