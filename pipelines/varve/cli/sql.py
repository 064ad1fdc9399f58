"""`varve sql`: DuckDB over the tables and views, without Java and without a service."""

from __future__ import annotations

import argparse
import csv
import datetime as dt
import json
import math
import shutil
import sys
from typing import Any

import duckdb

from varve.model.errors import BadRequest
from varve.query.sql import connect
from varve.settings import Settings
from varve.storage.store import Store

# Rows that the table format shows; csv and json have all of them.
_MOST_ROWS = 200
_BATCH = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = """\
Runs one SQL statement (DuckDB's dialect) over the tables and views of this home, or of
storage.root. Reads the newest version of each table; writes nothing.

views:   raw                         samples with metric and tags, copies removed
         metrics_1m _5m _1h _1d      windows: count, avg, min, max, stddev, p50, p95, p99, ...
tables:  samples, series, rollup_1m, quarantine, ... as they are (`varve sql 'SHOW TABLES'`)
"""
    parser.epilog = """\
examples:
  varve sql 'DESCRIBE metrics_1m'
  varve sql "SELECT tags['mode'] AS mode, avg(avg) FROM metrics_1m
             WHERE metric = 'node_load1' GROUP BY ALL"
  varve sql 'FROM quarantine ORDER BY rejected_at DESC LIMIT 10' --format json
"""
    parser.add_argument(
        "sql", metavar="SQL", help='the statement; "-" reads it from standard input'
    )
    parser.add_argument(
        "--format", choices=("table", "csv", "json"), default="table", help="default: table"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    query = sys.stdin.read() if args.sql == "-" else args.sql
    store = Store(settings.storage_root(), settings.storage_options())
    connection = connect(store, query)
    try:
        if args.format == "table":
            _print_table(connection, query)
        else:
            result = connection.execute(query)
            (_print_csv if args.format == "csv" else _print_json)(result)
    except duckdb.Error as err:
        raise BadRequest(str(err)) from err
    return 0


def _print_table(connection: duckdb.DuckDBPyConnection, query: str) -> None:
    relation = connection.sql(query)
    if relation is not None:  # a statement such as SET has no result
        width = shutil.get_terminal_size((160, 40)).columns
        relation.show(max_width=width, max_rows=_MOST_ROWS, max_col_width=80)


def _print_csv(result: duckdb.DuckDBPyConnection) -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(_columns(result))
    while rows := result.fetchmany(_BATCH):
        for row in rows:
            writer.writerow([_cell(value) for value in row])


def _print_json(result: duckdb.DuckDBPyConnection) -> None:
    """Prints an array with an object for each row; NaN and the infinities are strings there."""
    names, separator = _columns(result), "["
    while rows := result.fetchmany(_BATCH):
        for row in rows:
            record = {name: _plain(value) for name, value in zip(names, row, strict=True)}
            print(separator, json.dumps(record, ensure_ascii=False, default=str), sep="")
            separator = ","
    print("[]" if separator == "[" else "]")


def _columns(result: duckdb.DuckDBPyConnection) -> list[str]:
    return [column[0] for column in result.description or ()]


def _cell(value: Any) -> Any:
    plain = _plain(value)
    return json.dumps(plain, ensure_ascii=False) if isinstance(plain, dict | list) else plain


def _plain(value: Any) -> Any:
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        case dt.datetime():
            return value.isoformat(sep="T") + ("Z" if value.tzinfo is None else "")
        case bytes():
            return value.hex()
        case dict():
            return {str(key): _plain(inner) for key, inner in value.items()}
        case list():
            return [_plain(inner) for inner in value]
    return value
