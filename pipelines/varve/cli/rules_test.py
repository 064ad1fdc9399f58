"""`varve rules test`: runs tests of rules."""

from __future__ import annotations

import argparse
import difflib
import glob
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree as ET

from varve.cli.rules_check import read_text, say
from varve.cli.terminal import printable
from varve.model.errors import VarveError
from varve.rules.errors import RuleFileError
from varve.rules.group_run import Evaluator
from varve.rules.rule_file import Group, parse_rule_file
from varve.rules.unit_test_file import Test, parse_test_file
from varve.rules.unit_tests import Failure, run_test


def run(args: argparse.Namespace) -> int:
    """Runs the tests of each file. Returns the status of the command."""
    wanted = [_regex(text) for text in args.run]
    suites, failed = ET.Element("testsuites"), False
    for path in args.files:
        say(f"Unit Testing:  {path}")
        outcome = _test_file(path, wanted, args)
        faults = [failure for _, failures in outcome for failure in failures]
        _add_suite(suites, path, outcome)
        if faults:
            failed = True
            say("  FAILED:", to_stderr=True)
            for failure in faults:
                say(_shown(failure, diff=args.diff), to_stderr=True)
                say("")
        else:
            say("  SUCCESS")
        say("")
    if args.junit is not None:
        args.junit.write_bytes(ET.tostring(suites, encoding="utf-8", xml_declaration=True))
    return 1 if failed else 0


def _regex(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text)
    except re.error as error:
        raise VarveError(f"--run {text}: no regular expression: {error}") from None


def _test_file(
    path: Path, wanted: list[re.Pattern[str]], args: argparse.Namespace
) -> list[tuple[str, list[Failure]]]:
    """Failures by the name of the test; those of the file itself under its own."""
    try:
        file = parse_test_file(read_text(path))
        groups = _rules(path.parent, file.rule_files, strict=not args.ignore_unknown_fields)
    except RuleFileError as error:
        return [(str(path), [Failure(f"    {problem}") for problem in error.problems])]
    except (OSError, UnicodeDecodeError, VarveError) as error:
        return [(str(path), [Failure(f"    {error}")])]
    evaluator, outcome = Evaluator(), []
    for test in file.tests:
        if wanted and not any(regex.search(test.name) for regex in wanted):
            continue
        told = _tells(test) if args.debug else lambda _at_ms: None
        failures = run_test(test, file, groups, evaluator=evaluator, on_evaluation=told)
        outcome.append((test.name, failures))
    return outcome


def _tells(test: Test) -> Callable[[int], None]:
    say(f"DEBUG: test {test.name!r}")
    return lambda at_ms: say(f"DEBUG: evaluated at {(at_ms - test.start_ms) / 1000:g}s")


def _rules(folder: Path, patterns: tuple[str, ...], *, strict: bool) -> list[Group]:
    """The groups of all files that the patterns match. Raises VarveError for a bad file."""
    groups: list[Group] = []
    for pattern in patterns:
        paths = sorted(glob.glob(str(folder / pattern)))  # noqa: PTH207 - patterns may be absolute
        if not paths:
            say(f"  WARNING: no file match pattern {folder / pattern}", to_stderr=True)
        for path in paths:
            try:
                groups += parse_rule_file(read_text(Path(path)), path, strict=strict)
            except RuleFileError as error:
                raise VarveError(
                    "\n    ".join(f"{path}: {problem}" for problem in error.problems)
                ) from None
    return groups


def _shown(failure: Failure, *, diff: bool) -> str:
    if not diff or failure.compared is None:
        return failure.text
    expected, got = (text.splitlines() for text in failure.compared)
    head = failure.text.split("\n        exp:")[0]
    lines = difflib.unified_diff(expected, got, "exp", "got", lineterm="")
    return "\n".join([head, "        diff:", *(f"          {line}" for line in lines)])


def _add_suite(suites: ET.Element, path: Path, outcome: list[tuple[str, list[Failure]]]) -> None:
    failed = sum(bool(failures) for _, failures in outcome)
    counts = {"tests": str(len(outcome)), "failures": str(failed)}
    suite = ET.SubElement(suites, "testsuite", {"name": str(path), **counts})
    for name, failures in outcome:
        case = ET.SubElement(suite, "testcase", {"name": name or str(path)})
        for failure in failures:
            ET.SubElement(case, "failure").text = printable(failure.text, keep="\n\t")
