"""`varve query`: PromQL to a table or a plot, over HTTP or straight from the tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from varve.cli.query_output import error_text, print_answer
from varve.cli.query_sources import Question, ask
from varve.cli.terminal import printable
from varve.model.clock import SystemClock
from varve.model.errors import BadRequest
from varve.model.window import TIER_NAMES
from varve.query.times import parse_duration_ms, parse_time_ms
from varve.settings import Settings
from varve.settings.section import secret_of

# Points of a plot whose step was not asked for.
_POINTS = 240


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Evaluates a PromQL expression at one time, or over a range with --range, and prints a table
or a plot. Asks the query service that `varve up` runs; where there is none it reads the tables
itself, which takes some seconds more.
"""
    parser.epilog = """\
examples:
  varve query 'sum by (mode) (rate(node_cpu_seconds_total[1m]))'
  varve query --range 1h 'node_memory_MemAvailable_bytes'
  varve query --at 2026-11-22T09:00:00Z --json 'up'
  varve query --range 1h --explain 'sum(rate(node_cpu_seconds_total[1m]))'
"""
    parser.add_argument("expression", metavar="EXPR", help="PromQL")
    parser.add_argument("--at", metavar="T", help="time, RFC 3339 or Unix seconds (default: now)")
    parser.add_argument("--range", metavar="DURATION", help="plot so much time up to --at: 5m, 8d")
    parser.add_argument("--step", metavar="DURATION", help="distance of points (default: fits)")
    parser.add_argument(
        "--tier",
        choices=TIER_NAMES,
        help="answer from it as far as it goes (default: each selector from what costs least)",
    )
    parser.add_argument(
        "--as-of",
        metavar="T",
        help="answer as of an earlier time, or of `snapshot` in the provenance of an answer",
    )
    parser.add_argument("--url", help="query service (default: that of this home)")
    parser.add_argument(
        "--token",
        metavar="TOKEN",
        help="token for --url: env:NAME, file:PATH or as it is (default: query.token)",
    )
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print the service's answer as it is")
    shape.add_argument(
        "--explain", action="store_true", help="run it, and print its plan and what that read"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    question = _question(args, SystemClock().now_ms())
    answer = ask(question, args.url, settings, _token(args.token, settings))
    if answer["status"] != "success" and not args.json:
        raise BadRequest(error_text(answer, args.expression))
    if args.json:
        print(printable(json.dumps(answer, indent=2, ensure_ascii=False), keep="\n"))
    elif args.explain:
        print("\n".join(printable(line) for line in answer["data"]))
    else:
        print_answer(answer, question)
    return 0 if answer["status"] == "success" else 1


def _question(args: argparse.Namespace, now_ms: int) -> Question:
    at_ms = _parsed("--at", parse_time_ms, args.at) if args.at else now_ms
    if args.step and not args.range:
        raise BadRequest("--step is the distance of points of a plot: give --range too")
    if not args.range:
        return Question(
            args.expression,
            at_ms,
            at_ms,
            explain=args.explain,
            tier=args.tier,
            as_of=args.as_of,
        )
    span_ms = _parsed("--range", parse_duration_ms, args.range)
    if span_ms <= 0:
        raise BadRequest(f"--range {args.range} is not above zero")
    step_ms = max(1, round(span_ms / 1000 / _POINTS)) * 1000
    if args.step:
        step_ms = _parsed("--step", parse_duration_ms, args.step)
        if step_ms <= 0:
            raise BadRequest(f"--step {args.step} is not above zero")
    start_ms = at_ms - span_ms
    return Question(args.expression, start_ms, at_ms, step_ms, args.explain, args.tier, args.as_of)


def _token(given: str | None, settings: Settings) -> str:
    if given is None:
        return settings.query.token.get_secret_value()
    try:
        return secret_of(given)
    except ValueError as err:
        raise BadRequest(f"--token: {err}") from err


def _parsed(option: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as err:
        raise BadRequest(f"{option}: {err}") from err
