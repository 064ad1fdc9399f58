"""`varve sql`: DuckDB over the tables and views, without Java and without a service."""

from __future__ import annotations

import argparse
import contextlib
import csv
import io
import json
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import Any

import duckdb

from varve.cli.terminal import printable
from varve.model.errors import BadRequest
from varve.model.text_file import decoded
from varve.query.sql import DEFAULT_MEMORY_MB, connect
from varve.query.sql_values import plain
from varve.query.times import parse_duration_ms
from varve.services.progress import table_store
from varve.settings import Settings

# Rows that the table format shows; csv and json have all of them.
_MOST_ROWS = 200
_BATCH = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Runs one SQL statement (DuckDB's dialect) over the tables and views of this home, or of
storage.root. Reads the newest version of each table; writes nothing and reaches nothing else.
now() and dates are in UTC, as the timestamps of the views.

views:   raw                         samples with metric and tags, copies removed
         metrics_1m _5m _1h _1d      windows: count, avg, min, max, stddev, p50, p95, p99, ...
         rejects                     what was refused: reason, metric, limit, samples, text, ...
tables:  samples, series, rollup_1m, quarantine, ... as they are (`varve sql 'SHOW TABLES'`)
"""
    parser.epilog = """\
examples:
  varve sql 'DESCRIBE metrics_1m'
  varve sql "SELECT tags['mode'] AS mode, avg(avg) FROM metrics_1m
             WHERE metric = 'node_load1' GROUP BY ALL"
  varve sql 'FROM rejects ORDER BY rejected_at DESC LIMIT 10' --format json
"""
    parser.add_argument(
        "sql", metavar="SQL", help='the statement; "-" reads it from standard input'
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="default: table"
    )
    parser.add_argument(
        "--timeout", metavar="DURATION", help="how long it may take (default: query.timeout_s)"
    )
    parser.add_argument(
        "--memory",
        type=int,
        default=DEFAULT_MEMORY_MB,
        metavar="MIB",
        help=f"what it may take (default: {DEFAULT_MEMORY_MB:,})",
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    query = _from_stdin() if args.sql == "-" else args.sql
    if not _is_text(query):
        raise BadRequest("this SQL is not in UTF-8")
    timeout_s = _seconds(args.timeout) if args.timeout else settings.query.timeout_s
    if args.memory < 16:
        raise BadRequest(f"--memory {args.memory} is under 16 MiB")
    store = table_store(settings)
    try:
        if not duckdb.extract_statements(query):
            raise BadRequest("there is no statement in this SQL")
        # Closed before Python ends: threads of DuckDB that still read would abort the process.
        with (
            connect(store, query, args.memory) as connection,
            _interrupted(connection, timeout_s),
        ):
            if args.format == "table":
                _print_table(connection, query)
            else:
                result = connection.execute(query)
                (_print_csv if args.format == "csv" else _print_json)(result)
    except duckdb.InterruptException as err:
        raise BadRequest(f"stopped after {timeout_s:g} s: --timeout gives it longer") from err
    except duckdb.OutOfMemoryException as err:
        raise BadRequest(f"over {args.memory} MiB: --memory gives it more\n{err}") from err
    except duckdb.Error as err:
        raise BadRequest(printable(str(err), keep="\n")) from err
    return 0


@contextlib.contextmanager
def _interrupted(connection: duckdb.DuckDBPyConnection, after_s: float) -> Iterator[None]:
    """Ends the statement under way if this takes longer. InterruptException then."""
    timer = threading.Timer(min(after_s, threading.TIMEOUT_MAX), connection.interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _is_text(query: str) -> bool:
    """Whether it has no byte of an argument that is no UTF-8."""
    return query.encode("utf-8", "replace").decode() == query


def _from_stdin() -> str:
    try:
        return decoded(sys.stdin.buffer.read(), "standard input")
    except ValueError as err:
        raise BadRequest(str(err)) from err


def _seconds(text: str) -> float:
    try:
        seconds = parse_duration_ms(text) / 1000
    except ValueError as err:
        raise BadRequest(f"--timeout: {err}") from err
    if seconds <= 0:
        raise BadRequest(f"--timeout {text} is not above zero")
    return seconds


def _print_table(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    relation = connection.sql(query)
    if relation is not None:  # a statement such as CREATE has no result
        width = shutil.get_terminal_size((160, 40)).columns
        text = io.StringIO()
        with contextlib.redirect_stdout(text):
            relation.show(max_width=width, max_rows=_MOST_ROWS, max_col_width=80)
        _write(text.getvalue())


def _write(text: str) -> None:
    """Writes lines; what a terminal would obey is escaped if it is one that reads them."""
    sys.stdout.write(printable(text, keep="\n") if sys.stdout.isatty() else text)


def _print_csv(result: duckdb.DuckDBPyConnection) -> None:
    lines = io.StringIO()
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerow(_columns(result))
    while rows := result.fetchmany(_BATCH):
        for row in rows:
            writer.writerow([_cell(value) for value in row])
        _write(lines.getvalue())
        lines.seek(0)
        lines.truncate()
    _write(lines.getvalue())


def _print_json(result: duckdb.DuckDBPyConnection) -> None:
    """Prints an array with an object for each row; NaN and the infinities are strings there."""
    names, separator = _columns(result), "["
    while rows := result.fetchmany(_BATCH):
        for row in rows:
            record = {name: plain(value) for name, value in zip(names, row, strict=True)}
            print(separator, printable(json.dumps(record, ensure_ascii=False, default=str)), sep="")
            separator = ","
    print("[]" if separator == "[" else "]")


def _columns(result: duckdb.DuckDBPyConnection) -> list[str]:
    return [column[0] for column in result.description or ()]


def _cell(value: Any) -> Any:
    found = plain(value)
    return json.dumps(found, ensure_ascii=False) if isinstance(found, dict | list) else found
