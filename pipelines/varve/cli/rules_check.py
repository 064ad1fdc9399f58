"""`varve rules check`: what is wrong with files of rules."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varve.cli.terminal import printable
from varve.rules.checking import duplicates, rule_count
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
            lint_found |= _succeed(groups, args.lint)
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


def _succeed(groups: tuple[Group, ...], lint: str) -> bool:
    """Says how many rules there are, or what looks like a mistake; returns whether anything does.

    As with promtool that is a failure by its text alone, unless --lint-fatal is given.
    """
    twice = [] if lint == "none" else duplicates(groups)
    if not twice:
        say(f"  SUCCESS: {rule_count(groups)} rules found")
        return False
    lines = [f"lint error {len(twice)} duplicate rule(s) found."]
    for one in twice:
        lines += [f"Metric: {one.name}", "Label(s):"]
        lines += [f"\t{label}: {value}" for label, value in one.labels]
    lines.append("Might cause inconsistency while recording expressions")
    say("  FAILED:\n" + "\n".join(lines), to_stderr=True)
    return True
