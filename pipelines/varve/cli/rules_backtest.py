"""`varve rules backtest`: what rules would have done in a span of the past."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from varve.cli.home_options import add_home_options
from varve.cli.terminal import printable
from varve.model.clock import SystemClock, utc_text
from varve.model.errors import BadRequest, NeedsOperator
from varve.query.times import parse_duration_ms, parse_time_ms
from varve.rules.errors import RuleFileError
from varve.rules.rule_file import Group, parse_rule_file

if TYPE_CHECKING:
    from varve.query.view import View
    from varve.rules.backtest.report import Report
    from varve.settings import Settings


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Evaluates rules for every time of a span of the past and says what would have fired, how often,
for how long, and who would have been told. Equal rules, span and snapshot give equal bytes.
"""
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="files of rules")
    add_home_options(parser)
    parser.add_argument(
        "--from",
        dest="start",
        required=True,
        metavar="T",
        help="RFC 3339, Unix seconds, or a duration before now: 6h",
    )
    parser.add_argument("--to", dest="end", metavar="T", help="the same (default: now)")
    parser.add_argument("--as-of", metavar="T", help="snapshot of an answer, or a time")
    parser.add_argument(
        "--against", action="append", type=Path, default=[], metavar="FILE", help="older rules"
    )
    parser.add_argument(
        "--notify", type=Path, metavar="FILE", help="an alertmanager.yml: who would be told"
    )
    parser.add_argument("--format", choices=("text", "json", "html"), default="text")
    parser.add_argument("--output", type=Path, metavar="FILE", help="default: stdout")


def run(args: argparse.Namespace, settings: Settings) -> int:
    """Returns 0; 1 if a rule failed. Raises NeedsOperator or BadRequest for what cannot be used."""
    now_ms = SystemClock().now_ms()
    start_ms = _time("--from", args.start, now_ms)
    end_ms = _time("--to", args.end, now_ms) if args.end else now_ms
    if end_ms < start_ms:
        raise BadRequest("--to is before --from")
    report = _report(args, settings, start_ms, end_ms)
    text = _written(report, args.format)
    if args.output is None:
        sys.stdout.write(printable(text, keep="\n"))
    else:
        args.output.write_text(text)
    return 1 if any(record.failures for record in report.run.rules) else 0


def _written(report: Report, form: str) -> str:
    if form == "json":
        return json.dumps(report.to_json(), indent=2, ensure_ascii=False) + "\n"
    return report.to_html() if form == "html" else report.to_text()


def _report(args: argparse.Namespace, settings: Settings, start_ms: int, end_ms: int) -> Report:
    from varve.notify.config import load_config
    from varve.notify.config.document import ConfigError
    from varve.promql import engine
    from varve.promql.engine import Engine
    from varve.query.derived_storage import storage_of
    from varve.query.reader import Reader
    from varve.rules.alerts import Environment
    from varve.rules.backtest.backtest import Backtest, backtest
    from varve.rules.backtest.report import Report
    from varve.rules.backtest.told import told
    from varve.rules.group_run import Evaluator
    from varve.rules.series_buffer import SeriesBuffer
    from varve.services.query_limits import query_limits

    rules, query = settings.rules, settings.query
    groups, against = _groups(args.files), _groups(args.against)
    try:
        config = None if args.notify is None else load_config(args.notify)
    except ConfigError as err:
        raise NeedsOperator(str(err)) from err
    limits = replace(query_limits(query), timeout_s=None, max_points=2**31)
    options = engine.Options(lookback_ms=query.lookback_s * 1000, limits=limits)
    evaluator = Evaluator(
        interval_ms=round(rules.interval_s * 1000),
        query_offset_ms=round(rules.query_offset_s * 1000),
        resend_ms=round(rules.resend_delay_s * 1000),
        environment=Environment(rules.external_labels, rules.external_url or query.url()),
        engine=Engine(SeriesBuffer(), options),
    )
    view = _view(args.as_of, settings)

    def ran(these: Sequence[Group]) -> Backtest:
        return backtest(
            these,
            lambda: storage_of(Reader(view, max_samples=query.max_samples)),
            evaluator,
            start_ms,
            end_ms,
            _progress(start_ms, end_ms),
        )

    run = ran(groups)
    return Report(
        tuple(map(str, args.files)),
        view.provenance.token,
        view.provenance.complete_until_ms,
        run,
        None if config is None else told(run, config),
        tuple(map(str, args.against)),
        ran(against) if args.against else None,
    )


def _groups(paths: Sequence[Path]) -> list[Group]:
    groups: list[Group] = []
    for path in paths:
        try:
            groups += parse_rule_file(path.read_bytes().decode(), str(path))
        except RuleFileError as err:
            raise NeedsOperator("\n".join(f"{path}:{one}" for one in err.problems)) from err
        except OSError as err:
            raise NeedsOperator(f"{path}: {err.strerror}") from err
        except UnicodeDecodeError as err:
            raise NeedsOperator(f"{path}: is not in UTF-8: save it as UTF-8") from err
    return groups


def _view(as_of: str | None, settings: Settings) -> View:
    """The snapshot that is asked for, else the newest."""
    from varve.api.parameters import Parameters
    from varve.api.view_choice import view_of
    from varve.query.memory import MemoryBudget
    from varve.query.snapshots import Snapshots
    from varve.query.tables import Tables
    from varve.services.progress import table_store

    store = table_store(settings)
    queries = tuple(settings.sample_queries())
    memory = MemoryBudget(settings.query.memory_bytes())
    cache_bytes = settings.query.cache_mb << 20
    calendar = settings.holidays.calendar()
    tables = Tables(store, queries, cache_bytes, memory, calendar=calendar)
    snapshots = Snapshots(store, queries, lambda: tables.view, memory)
    return view_of(Parameters([("as_of", as_of or "")]), tables.view, snapshots)


def _time(option: str, text: str, now_ms: int) -> int:
    try:
        return parse_time_ms(text)
    except ValueError:
        pass
    try:
        return now_ms - parse_duration_ms(text)
    except ValueError:
        raise BadRequest(
            f"{option} {text!r} is no time (RFC 3339, Unix seconds) and no duration such as 6h"
        ) from None


def _progress(start_ms: int, end_ms: int) -> Callable[[int], None]:
    """Says on a terminal how far it is."""
    if not sys.stderr.isatty():
        return lambda _at_ms: None
    said = -1

    def say(at_ms: int) -> None:
        nonlocal said
        percent = 100 * (at_ms - start_ms) // max(1, end_ms - start_ms)
        if percent != said:
            said = percent
            end = "\n" if percent >= 100 else ""
            print(f"\r{utc_text(at_ms)} {percent:3} %", end=end, file=sys.stderr, flush=True)

    return say
