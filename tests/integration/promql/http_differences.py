"""Whether two servers of Prometheus' HTTP API answer a request alike, and where they need not.

Alike are status code, media type, errorType, keys and values. A key that only ours has is allowed
where it is one of ours, or one that Prometheus 3 has added.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx

from tests.integration.promql import answers
from tests.integration.promql.http_clients import Sent

_QUERIES = ("/api/v1/query", "/api/v1/query_range")
_ADDED = {"provenance", "infos", "warnings", "position"}
"""Of an envelope: where an answer comes from, annotations of 3, where a query is wrong."""
_OF_THE_SERVER = ("/api/v1/status/", "/api/v1/targets", "/version")
"""What a server says of itself: its keys are compared, not their values."""


@dataclass(frozen=True)
class Excepted:
    """A difference that is meant, and why."""

    reason: str
    applies: Callable[[Sent, httpx.Response, httpx.Response], bool]


def _is(sent: Sent, path: str) -> bool:
    return sent.path == f"/api/v1/{path}"


EXCEPTED = (
    Excepted(
        "2.42 has metadata of targets it scrapes alone, and these samples were pushed",
        lambda sent, theirs, ours: (
            _is(sent, "metadata") and theirs.status_code == ours.status_code == 200
        ),
    ),
    Excepted(
        "any text is the name of a label since 3.0",
        lambda sent, theirs, _: "label name" in theirs.text and '"~"' in query_of(sent),
    ),
    Excepted(
        "Prometheus knows the method DELETE of series, and that it has not implemented it",
        lambda sent, theirs, _: "not implemented" in theirs.text and sent.method == "DELETE",
    ),
    Excepted(
        "holt_winters is written as Prometheus 3 calls it",
        lambda sent, *_: _is(sent, "format_query") and "holt_winters" in query_of(sent),
    ),
    Excepted(
        "Go reads a number with underscores",
        lambda sent, *_: any(value == "1_0" for _, value in (*sent.params, *sent.form)),
    ),
    Excepted(
        "Go's router redirects an address with an empty part, to one that there is not",
        lambda sent, theirs, _: theirs.status_code == 301 and "//" in sent.path,
    ),
    Excepted(
        "where there is no such address or method, the text is the framework's",
        lambda _, theirs, ours: (
            theirs.status_code == ours.status_code and theirs.status_code in {404, 405}
        ),
    ),
)


def query_of(sent: Sent) -> str:
    return next((v for name, v in (*sent.form, *sent.params) if name == "query"), "")


def as_today(sent: Sent) -> Sent:
    """The request with the names that Prometheus 3 has given to functions."""

    def renamed(pairs: Any) -> Any:
        return tuple(
            (name, answers.as_today(value) if name == "query" else value) for name, value in pairs
        )

    return Sent(
        sent.client,
        sent.method,
        sent.path,
        renamed(sent.params),
        renamed(sent.form),
        sent.is_multipart,
        sent.headers,
    )


def reason_to_differ(sent: Sent, theirs: httpx.Response, ours: httpx.Response) -> str | None:
    """The reason for which these answers may differ, if there is one."""
    found = next((e.reason for e in EXCEPTED if e.applies(sent, theirs, ours)), None)
    if found is None and sent.path in _QUERIES and theirs.status_code not in {204, 404, 405}:
        bodies = [one.json() for one in (theirs, ours)]
        known = answers.known_difference(query_of(sent), *bodies)
        found = known.reason if known is not None else None
    return found


def difference(sent: Sent, theirs: httpx.Response, ours: httpx.Response) -> str | None:
    """How our answer differs, None if it does not."""
    if theirs.status_code != ours.status_code:
        return f"{theirs.status_code} {theirs.text[:200]} and {ours.status_code} {ours.text[:200]}"
    kinds = [one.headers.get("content-type", "").partition(";")[0] for one in (theirs, ours)]
    if not sent.path.startswith("/api/v1/"):
        return None  # text of their own; /federate is compared elsewhere
    if kinds[0] != kinds[1]:
        return f"{kinds[0]} and {kinds[1]}"
    if kinds[0] != "application/json":
        return None if theirs.content == ours.content else f"{theirs.text} and {ours.text}"
    wanted, got = theirs.json(), ours.json()
    if missing := wanted.keys() - got.keys():
        return f"without {missing}"
    if added := got.keys() - wanted.keys() - _ADDED:
        return f"with {added}"
    if wanted["status"] == "error":
        return _unlike_errors(wanted, got)
    if sent.path in _QUERIES:
        unlike = answers.difference(query_of(sent), wanted, got)
        return unlike or _unlike_statistics(wanted["data"], got["data"])
    return _unlike(sent, wanted["data"], got["data"])


def _unlike_errors(wanted: Any, got: Any) -> str | None:
    if wanted["errorType"] != got["errorType"]:
        return f"{wanted['errorType']} and {got['errorType']}: {wanted['error']}; {got['error']}"
    # Both name the same parameter, or none.
    named = [_parameter(body["error"]) for body in (wanted, got)]
    if named[0] and named[0] != named[1]:
        return f"{wanted['error']}; {got['error']}"
    return None


def _parameter(error: str) -> str:
    return error.split('"')[1] if error.startswith('invalid parameter "') else ""


def _unlike_statistics(wanted: Any, got: Any) -> str | None:
    if ("stats" in wanted) != ("stats" in got):
        return f"statistics: {wanted.get('stats')} and {got.get('stats')}"
    for part, keys in wanted.get("stats", {}).items():
        if missing := keys.keys() - got["stats"].get(part, {}).keys():
            return f"statistics without {part}: {missing}"
    return None


def _unlike(sent: Sent, wanted: Any, got: Any) -> str | None:
    if sent.path.endswith("/status/flags"):
        return None if isinstance(got, dict) else f"{got}"
    if sent.path.startswith(_OF_THE_SERVER):
        missing = wanted.keys() - got.keys()
        return f"without {missing}" if missing else None
    if sent.path.endswith("/series"):
        wanted, got = (sorted(map(_sorted_text, one)) for one in (wanted, got))
    return None if wanted == got else f"{_shortly(wanted)} and {_shortly(got)}"


def _sorted_text(labels: Any) -> str:
    return json.dumps(labels, sort_keys=True)


def _shortly(value: Any) -> str:
    return json.dumps(value)[:300]
