"""`varve query`: PromQL to a table or a plot, over HTTP or straight from the tables."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

from varve.cli.query_output import error_text, print_answer
from varve.cli.query_sources import Question, ask
from varve.cli.terminal import output, printable
from varve.model.clock import SystemClock
from varve.model.errors import BadRequest
from varve.query.times import parse_duration_ms, parse_time_ms
from varve.settings import Settings

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
    parser.add_argument("--url", help="query service (default: that of this home)")
    shape = parser.add_mutually_exclusive_group()
    shape.add_argument("--json", action="store_true", help="print the service's answer as it is")
    shape.add_argument(
        "--explain", action="store_true", help="run it, and print its plan and what that read"
    )


def run(args: argparse.Namespace, settings: Settings) -> int:
<<<<<<< .merge_file_teppZn
    question = _question(args, SystemClock().now_ms())
    answer = ask(question, args.url, settings)
    if answer["status"] != "success" and not args.json:
        raise BadRequest(error_text(answer, args.expression))
    with output():
        if args.json:
            print(printable(json.dumps(answer, indent=2, ensure_ascii=False), keep="\n"))
        elif args.explain:
            print("\n".join(printable(line) for line in answer["data"]))
=======
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
>>>>>>> .merge_file_ItUatX
        else:
            print_answer(answer, question)
    return 0 if answer["status"] == "success" else 1


def _question(args: argparse.Namespace, now_ms: int) -> Question:
    at_ms = _parsed("--at", parse_time_ms, args.at) if args.at else now_ms
    if not args.range:
        return Question(args.expression, at_ms, at_ms, explain=args.explain)
    span_ms = _parsed("--range", parse_duration_ms, args.range)
    if span_ms <= 0:
        raise BadRequest(f"--range {args.range} is not above zero")
    step_ms = _parsed("--step", parse_duration_ms, args.step) if args.step else 0
    step_ms = step_ms or max(1, round(span_ms / 1000 / _POINTS)) * 1000
    return Question(args.expression, at_ms - span_ms, at_ms, step_ms, args.explain)


def _parsed(option: str, parse: Callable[[str], int], text: str) -> int:
    try:
        return parse(text)
    except ValueError as err:
        raise BadRequest(f"{option}: {err}") from err
