"""`varve query`: PromQL to a table or a plot, over HTTP or straight from the tables."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from typing import Any

from varve.api.parameters import parse_duration_ms, parse_time_ms
from varve.cli.plot import plot, swatch
from varve.model.errors import BadRequest, NeedsOperator, TemporaryError
from varve.services.status import read_status
from varve.settings import Settings

_POINTS = 240
_HEIGHT = 16
_LEGEND_ROWS = 20
_TIMEOUT_S = 130.0


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
    parser.add_argument("--url", help="query service (default: that of this home)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print the service's answer as it is")
    shape.add_argument(
        "--explain", action="store_true", help="run it, and print its plan and what that read"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
    at = _argument("--at", parse_time_ms, args.at) / 1000 if args.at else time.time()
    parameters = {"query": args.expression}
    if args.range:
        span = _argument("--range", parse_duration_ms, args.range) / 1000
        if span <= 0:
            raise BadRequest(f"--range {args.range} is not above zero")
        step = _argument("--step", parse_duration_ms, args.step) / 1000 if args.step else None
        step = step or max(1.0, round(span / _POINTS))
        parameters |= {"start": f"{at - span:.3f}", "end": f"{at:.3f}", "step": f"{step:g}"}
    else:
        parameters["time"] = f"{at:.3f}"
    path = "query_range" if args.range else "query"
    if args.explain:
        path, parameters["run"] = "explain", "1"
    answer = _answer(args.url, settings, path, parameters)
    if args.json:
        print(json.dumps(answer, indent=2, ensure_ascii=False))
        return 0 if answer["status"] == "success" else 1
    if answer["status"] != "success":
        raise BadRequest(_explained(answer, args.expression))
    if args.explain:
        print("\n".join(answer["data"]))
    else:
        _print(answer, {k: float(v) for k, v in parameters.items() if k != "query"})
    return 0


def _argument(name: str, parse: Any, text: str) -> int:
    try:
        return int(parse(text))
    except ValueError as err:
        raise BadRequest(f"{name}: {err}") from err


def _answer(
    url: str | None, settings: Settings, path: str, parameters: Mapping[str, str]
) -> dict[str, Any]:
    """The service's JSON; from the tables if no service was named and none runs."""
    address = url or _service(settings)
    form = urllib.parse.urlencode(parameters, errors="surrogateescape").encode()
    request = f"{address.rstrip('/')}/api/v1/{path}"
    if not request.startswith(("http://", "https://")):
        raise BadRequest(f"--url {url} is no http:// or https:// address")
    try:
        with urllib.request.urlopen(request, form, timeout=_TIMEOUT_S) as response:  # noqa: S310
            return dict(json.load(response))
    except urllib.error.HTTPError as err:
        return _refusal(err, address)
    except urllib.error.URLError as err:
        if url is not None:
            raise TemporaryError(f"no query service answers at {url}: {err.reason}") from err
    return _from_tables(settings, path, parameters, address)


def _service(settings: Settings) -> str:
    record = read_status(settings.home).get("query")
    if record is not None and record.alive() and "url" in record.detail:
        return str(record.detail["url"])
    return f"http://{settings.query.host}:{settings.query.port}"


def _refusal(err: urllib.error.HTTPError, address: str) -> dict[str, Any]:
    body = err.read()
    try:
        return dict(json.loads(body))
    except ValueError:
        raise TemporaryError(
            f"{address} answers HTTP {err.code} without JSON: is it a Varve query service?"
        ) from err


def _from_tables(
    settings: Settings, path: str, parameters: Mapping[str, str], address: str
) -> dict[str, Any]:
    """The same answer by the same code, in this process."""
    import threading

    from varve.api.parameters import Parameters
    from varve.api.queries import Options, explained, instant, range_
    from varve.promql.errors import QueryError
    from varve.promql.evaluation.limits import Limits
    from varve.query.tables import Tables
    from varve.storage.store import Store

    store = Store(settings.storage_root(), settings.storage_options())
    try:
        tables = Tables(store, tuple(settings.ingest_queries()), settings.query.cache_mb << 20)
    except NeedsOperator as err:
        raise NeedsOperator(f"no query service answers at {address}, and {err}") from err
    print(f"no query service at {address}: reading {store.root}", file=sys.stderr)
    query = settings.query
    limits = Limits(
        max_samples=query.max_samples, max_points=query.max_points, timeout_s=query.timeout_s
    )
    options = Options(limits, query.lookback_s * 1000)
    given, never = Parameters(list(parameters.items())), threading.Event()
    now_ms = int(time.time() * 1000)
    try:
        if path == "query":
            answer = instant(tables.view, given, options, never, now_ms)
        elif path == "explain":
            answer = explained(tables.view, given, options, never, now_ms)
        else:
            answer = range_(tables.view, given, options, never)
    except QueryError as err:
        return {"status": "error", "errorType": err.error_type, "error": str(err)}
    finally:
        tables.close()
    return {
        "status": "success",
        "data": json.loads(answer.data) if isinstance(answer.data, bytes) else answer.data,
        "warnings": list(answer.warnings),
        "infos": list(answer.infos),
        "provenance": tables.view.provenance.to_json(),
    }


def _explained(answer: Mapping[str, Any], expression: str) -> str:
    """The error, and a line that points at it where the service says where it is."""
    text = str(answer["error"]).removeprefix('invalid parameter "query": ')
    position = answer.get("position")
    if position is None or "\n" in expression:
        return text
    raw = expression.encode("utf-8", "surrogateescape")
    before = len(raw[: position["start"]].decode(errors="replace"))
    length = len(raw[position["start"] : position["end"]].decode(errors="replace"))
    return f"{text}\n  {expression}\n  {' ' * before}{'^' * max(1, length)}"


def _print(answer: Mapping[str, Any], times: Mapping[str, float]) -> None:
    data = answer["data"]
    if data["resultType"] in ("scalar", "string"):
        print(data["result"][1])
    elif "start" in times:
        _print_plot(data["result"], times)
    else:
        _print_table(data["result"])
    for note in [*answer.get("warnings", ()), *answer.get("infos", ())]:
        print(note, file=sys.stderr)


def _print_table(result: list[dict[str, Any]]) -> None:
    if not result:
        print("no series at that time", file=sys.stderr)
        return
    rows = [(_name(series), _values(series)) for series in result]
    width = max(len(name) for name, _ in rows)
    for name, values in rows:
        print(f"{name:<{width}}  {values[0]}")
        for value in values[1:]:
            print(f"{'':<{width}}  {value}")


def _values(series: Mapping[str, Any]) -> list[str]:
    if "value" in series:
        return [str(series["value"][1])]
    if "values" in series:
        return [f"{value} @{at}" for at, value in series["values"]]
    return ["(native histogram: see --json)"]


def _print_plot(result: list[dict[str, Any]], times: Mapping[str, float]) -> None:
    if not result:
        print("no series in that range", file=sys.stderr)
        return
    colour = sys.stdout.isatty()
    lines = [[(at, float(value)) for at, value in s.get("values", ())] for s in result]
    width = shutil.get_terminal_size((100, 24)).columns
    gap = times["step"] * 1.5
    rows = plot(lines, times["start"], times["end"], gap, width, _HEIGHT, colour=colour)
    print("\n".join(rows))
    for i, series in enumerate(result[:_LEGEND_ROWS]):
        last = series["values"][-1][1] if series.get("values") else "(native histograms)"
        print(f"{swatch(i, colour=colour)} {_name(series)}  {last}")
    if len(result) > _LEGEND_ROWS:
        print(f"   and {len(result) - _LEGEND_ROWS} more series")


def _name(series: Mapping[str, Any]) -> str:
    labels = dict(series["metric"])
    name = labels.pop("__name__", "")
    inside = ", ".join(f"{k}={json.dumps(v, ensure_ascii=False)}" for k, v in labels.items())
    return f"{name}{{{inside}}}" if inside or not name else name
