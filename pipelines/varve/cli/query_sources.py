"""Where `varve query` has its answers from: a query service over HTTP, or the tables themselves."""

from __future__ import annotations

import http.client
import json
import sys
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

from varve.cli.terminal import printable
from varve.model.errors import BadRequest, NeedsOperator, TemporaryError
from varve.services.discovery import query_service
from varve.services.own_services import opener_of_home, opener_to
from varve.settings import Settings

# Over query.timeout_s, so that the service itself says when a query takes too long.
_TIMEOUT_S = 130.0

Json = dict[str, Any]
"""An answer as the HTTP API gives it."""


@dataclass(frozen=True, slots=True)
class Question:
    """PromQL from start_ms to end_ms, step_ms apart; at start_ms alone if step_ms is 0."""

    expression: str
    start_ms: int
    end_ms: int
    step_ms: int = 0
    explain: bool = False
    tier: str | None = None
    as_of: str | None = None


def ask(question: Question, url: str | None, settings: Settings, token: str = "") -> Json:
    """Asks the service at `url`, with the token, else that of the home, and reads the tables if
    none runs.

    TemporaryError if `url` is given and nothing answers there; NeedsOperator without tables.
    """
    try:
        address = url or query_service(settings)
    except TemporaryError as err:
        return _ask_tables(question, settings, str(err))
    opener = opener_of_home(settings) if url is None else _opener_to(url, token)
    try:
        return _ask_service(question, address, opener)
    except (OSError, http.client.HTTPException) as err:
        reason = err.reason if isinstance(err, urllib.error.URLError) else err
        words = printable(str(reason).strip()) or type(reason).__name__
        raise TemporaryError(f"no query service answers at {address}: {words}") from err


def _opener_to(url: str, token: str) -> urllib.request.OpenerDirector:
    try:
        parts = urllib.parse.urlsplit(url)
        if parts.scheme in ("http", "https") and parts.hostname and parts.port != 0:
            return opener_to(url, token)
    except ValueError:  # brackets, or a port, that are none
        pass
    raise BadRequest(f"--url {url} is no http:// or https:// address")


def _ask_service(question: Question, address: str, opener: urllib.request.OpenerDirector) -> Json:
    """Raises OSError or HTTPException if nobody answers, or not in HTTP."""
    parameters = {"query": question.expression}
    if question.step_ms:
        parameters |= {
            "start": _seconds(question.start_ms),
            "end": _seconds(question.end_ms),
            "step": _seconds(question.step_ms),
        }
    else:
        parameters["time"] = _seconds(question.start_ms)
    if question.tier is not None:
        parameters["tier"] = question.tier
    if question.as_of is not None:
        parameters["as_of"] = question.as_of
    path = "query_range" if question.step_ms else "query"
    if question.explain:
        path, parameters["run"] = "explain", "1"
    form = urllib.parse.urlencode(parameters, errors="surrogateescape").encode()
    request = f"{address.rstrip('/')}/api/v1/{path}"
    try:
        with opener.open(request, form, timeout=_TIMEOUT_S) as response:
            return _read(response.read(), response.status, address)
    except urllib.error.HTTPError as err:
        return _read(err.read(), err.code, address)


def _seconds(ms: int) -> str:
    return f"{ms / 1000:.3f}"


def _read(body: bytes, status: int, address: str) -> Json:
    """The answer, of whatever status. TemporaryError if it is none of a query service."""
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict) or "status" not in answer:
        raise TemporaryError(
            f"{address} answers HTTP {status}, but not as a query service: is it one of Varve?"
        )
    return answer


def _ask_tables(question: Question, settings: Settings, why: str) -> Json:
    """Evaluates in this process and answers as the service would.

    why: what keeps the service from being asked.
    """
    from varve.api.parameters import Parameters
    from varve.api.query_endpoints import answer_of
    from varve.api.view_choice import view_of
    from varve.promql.errors import QueryError
    from varve.promql.syntax.cursor import ParseError
    from varve.query.evaluation import Options, Range, evaluate, explain
    from varve.query.memory import MemoryBudget, Reservation
    from varve.query.snapshots import Snapshots
    from varve.query.tables import Tables
    from varve.query.view import View
    from varve.services.progress import table_store
    from varve.services.query_limits import query_limits

    store = table_store(settings)
    query = settings.query
    memory = MemoryBudget(query.memory_bytes())
    try:
        tables = Tables(
            *(store, tuple(settings.sample_queries()), query.cache_mb << 20, memory),
            calendar=settings.holidays.calendar(),
        )
    except NeedsOperator as err:
        raise NeedsOperator(f"{why}, and {err}") from err
    print(f"{why}: reading {store.root}", file=sys.stderr)

    def newer_view(_: View) -> View:
        tables.poll()
        return tables.view

    options = Options(
        query_limits(query),
        query.lookback_s * 1000,
        memory=Reservation(memory),
        newer_view=newer_view,
        say_why_empty=True,
        tier=question.tier,
    )
    start_ms, end_ms, step_ms = question.start_ms, question.end_ms, question.step_ms
    times = Range(start_ms, end_ms, step_ms) if step_ms else start_ms
    answer: Json = {"status": "success"}
    given = Parameters([("as_of", question.as_of or "")])
    snapshots = Snapshots(store, tuple(settings.sample_queries()), lambda: tables.view, memory)
    try:
        view = view_of(given, tables.view, snapshots)
        provenance = view.provenance
        if question.explain:
            answer["data"] = explain(view, question.expression, times, options, run=True)
        else:
            evaluated = evaluate(view, question.expression, times, options)
            provenance, found = evaluated.provenance, answer_of(evaluated.result)
            answer |= {
                "data": json.loads(found.data),
                "warnings": list(found.warnings),
                "infos": list(found.infos),
            }
    except ParseError as err:
        position = {"start": err.span.start, "end": err.span.end}
        return _error(err.error_type, str(err)) | {"position": position}
    except QueryError as err:
        return _error(err.error_type, str(err))
    finally:
        tables.close()
    return answer | {"provenance": provenance.to_json()}


def _error(kind: str, text: str) -> Json:
    return {"status": "error", "errorType": kind, "error": text}
