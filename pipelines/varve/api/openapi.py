"""The OpenAPI document of the query service, made from the table of endpoints.

Source: OpenAPI 3.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from varve import __version__
from varve.api.endpoint import Endpoint
from varve.api.failures import JSON

Schema = dict[str, Any]

_TIME: Final = {"type": "string", "examples": ["1795338000.5", "2026-11-22T09:00:00Z"]}
_DURATION: Final = {"type": "string", "examples": ["15", "5m"]}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TEXT: Final = {"type": "string"}
_FLAG: Final = {"type": "string", "enum": ["0", "1"]}

PARAMETERS: Final[Mapping[str, tuple[str, Schema]]] = {
    "query": ("PromQL, or SQL.", _TEXT),
    "time": ("When to evaluate, RFC 3339 or Unix seconds; now by default.", _TIME),
    "start": ("First time, RFC 3339 or Unix seconds.", _TIME),
    "end": ("Last time, RFC 3339 or Unix seconds.", _TIME),
    "step": ("Between two points, seconds or a PromQL duration.", _DURATION),
    "timeout": ("The most time the answer may take, seconds or a PromQL duration.", _DURATION),
    "limit": ("The most items of the answer; 0 for all.", _COUNT),
    "limit_per_metric": ("The most entries of a metric; 0 for all.", _COUNT),
    "lookback_delta": ("How far an instant selector looks back.", _DURATION),
    "stats": ("Anything but an empty text adds statistics.", _TEXT),
    "degrade": (
        "sample has an answer that takes too much estimated.",
        {"type": "string", "enum": ["sample"]},
    ),
    "run": ("1 also evaluates the query.", _FLAG),
    "metric": ("Name of one metric.", _TEXT),
    "match[]": ("A selector; may be given several times.", {"type": "array", "items": _TEXT}),
}
"""Description and schema of every parameter there is."""

_REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "query": ("query",),
    "query_range": ("query", "start", "end", "step"),
    "explain": ("query",),
    "format_query": ("query",),
    "parse_query": ("query",),
    "sql": ("query",),
    "query_exemplars": ("query",),
    "series": ("match[]",),
}
_ERRORS: Final = {
    "400": "A parameter cannot be read.",
    "422": "The query cannot be evaluated, or is over a limit.",
    "503": "The deadline is over, or the service is not ready.",
}


def document(endpoints: Iterable[Endpoint]) -> Schema:
    """The document, as json.dumps takes it."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Varve query service",
            "version": __version__,
            "description": "Prometheus' HTTP API over open tables, with provenance.",
        },
        "paths": {e.address.replace(":path", ""): _operations(e) for e in endpoints},
        "components": {"schemas": {"Success": _SUCCESS, "Error": _ERROR}},
    }


_SUCCESS: Final = {
    "type": "object",
    "required": ["status", "data"],
    "properties": {
        "status": {"const": "success"},
        "data": {},
        "warnings": {"type": "array", "items": _TEXT},
        "infos": {"type": "array", "items": _TEXT},
        "provenance": {"type": "object"},
    },
}
_ERROR: Final = {
    "type": "object",
    "required": ["status", "errorType", "error"],
    "properties": {"status": {"const": "error"}, "errorType": _TEXT, "error": _TEXT},
}


def names_of(endpoint: Endpoint) -> list[str]:
    """The parameters that an endpoint takes."""
    return [
        name for name in re.findall(r"[a-z_]+(?:\[\])?", endpoint.parameters) if name in PARAMETERS
    ]


def _operations(endpoint: Endpoint) -> Schema:
    return {method.lower(): _operation(endpoint, method) for method in endpoint.methods}


def _operation(endpoint: Endpoint, method: str) -> Schema:
    identity = re.sub(r"\W+", "_", endpoint.name).strip("_")
    operation: Schema = {
        "operationId": f"{method.lower()}_{identity}",
        "summary": endpoint.help,
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": _TEXT}
            for name in re.findall(r"\{(\w+)", endpoint.path)
        ],
        "responses": _responses(endpoint),
    }
    names, required = names_of(endpoint), _REQUIRED.get(endpoint.path, ())
    if method == "GET":
        operation["parameters"] += [
            {
                "name": name,
                "in": "query",
                "required": name in required,
                "description": PARAMETERS[name][0],
                "schema": PARAMETERS[name][1],
            }
            for name in names
        ]
    elif endpoint.takes_body:
        content = {"application/x-protobuf": {"schema": {"type": "string", "format": "binary"}}}
        operation["requestBody"] = {"required": True, "content": content}
    elif names:
        form = {
            "type": "object",
            "required": list(required),
            "properties": {n: PARAMETERS[n][1] | {"description": PARAMETERS[n][0]} for n in names},
        }
        operation["requestBody"] = {
            "required": bool(required),
            "content": {"application/x-www-form-urlencoded": {"schema": form}},
        }
    return operation


def _responses(endpoint: Endpoint) -> Schema:
    success = {"application/json": {"schema": {"$ref": "#/components/schemas/Success"}}}
    found = {kind: {"schema": _TEXT} for kind in endpoint.media_types} or success
    if JSON in endpoint.media_types:
        found |= success
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    return {"200": {"description": endpoint.help, "content": found}} | {
        status: {"description": text, "content": error} for status, text in _ERRORS.items()
    }
