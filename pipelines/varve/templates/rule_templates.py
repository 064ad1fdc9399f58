"""Templates of labels and annotations of alerting rules: their data and functions.

Source: Prometheus, template/template.go and rules/alerting.go.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final
from urllib.parse import urlsplit

from varve.promql.syntax.literals import parse_duration
from varve.templates import text_functions
from varve.templates.budget import Limits
from varve.templates.builtins import escape_query
from varve.templates.errors import FunctionError
from varve.templates.go_time import NS, Duration, Time
from varve.templates.template_set import TemplateSet
from varve.templates.values import ANY, STRING, Function, Members, SafeHtml, StringMap

VARIABLES: Final = ("$labels", "$externalLabels", "$externalURL", "$value")

_SAMPLE: Final = "*template.sample"
_VECTOR: Final = "template.queryResult"


@dataclass(frozen=True, slots=True, eq=False)
class Sample(Members):
    """One sample of the answer to a query."""

    labels: StringMap
    value: float

    go_type: ClassVar[str] = _SAMPLE
    template_fields: ClassVar[Mapping[str, str]] = {"Labels": "labels", "Value": "value"}


class Vector(list[Sample]):
    """The answer to a query."""

    go_type: ClassVar[str] = _VECTOR
    template_methods: ClassVar[Mapping[str, Function]] = {}


@dataclass(frozen=True, slots=True, eq=False)
class AlertData(Members):
    """What the templates of one alert see."""

    labels: StringMap
    external_labels: StringMap
    external_url: str
    value: float

    go_type: ClassVar[str] = "template.AlertTemplateData"
    template_fields: ClassVar[Mapping[str, str]] = {
        "Labels": "labels",
        "ExternalLabels": "external_labels",
        "ExternalURL": "external_url",
        "Value": "value",
    }


Query = Callable[[str], Sequence[tuple[Mapping[str, str], float]]]
"""Answers a query with a vector: labels, the name among them, and values. Raises FunctionError."""


def parse_alert_text(text: str, name: str) -> TemplateSet:
    """Reads a label or annotation. Raises TemplateError."""
    return TemplateSet().with_text(text, name, FUNCTION_NAMES, VARIABLES)


def expand_alert_text(
    template: TemplateSet,
    name: str,
    data: AlertData,
    *,
    query: Query,
    now_ms: int,
    limits: Limits | None = None,
) -> str:
    """What the text that was read as `name` gives. Raises TemplateError."""
    variables = {
        "$labels": data.labels,
        "$externalLabels": data.external_labels,
        "$externalURL": data.external_url,
        "$value": data.value,
    }
    functions = rule_functions(query, data.external_url, now_ms)
    return template.expand(name, data, functions, variables=variables, limits=limits or Limits())


def rule_functions(query: Query, external_url: str, now_ms: int) -> Mapping[str, Function]:
    """All functions, for an evaluation at `now_ms`."""
    path = urlsplit(external_url).path
    return {
        **_FUNCTIONS,
        "query": Function((STRING,), lambda text: _vector(query(text))),
        "externalURL": Function((), lambda: external_url),
        "pathPrefix": Function((), lambda: path),
        "now": Function((), lambda: now_ms / 1000),
    }


def _vector(samples: Sequence[tuple[Mapping[str, str], float]]) -> Vector:
    return Vector(Sample(StringMap(labels), value) for labels, value in samples)


def _first(vector: Vector | None) -> Sample:
    if not vector:
        raise FunctionError("first() called on vector with no elements")
    return vector[0]


def _label(name: str, sample: Sample | None) -> str:
    return _given(sample).labels.get(name, "")


def _given(sample: Sample | None) -> Sample:
    if sample is None:
        raise FunctionError("there is no sample")
    return sample


def _sorted(name: str, vector: Vector | None) -> Vector:
    return Vector(sorted(vector or (), key=lambda sample: sample.labels.get(name, "")))


def split_host_port(text: str) -> tuple[str, str] | None:
    """Host and port of `host:port` or `[host]:port`; None if it is neither."""
    host, colon, port = text.rpartition(":")
    if not colon:
        return None
    if host.startswith("["):
        if not host.endswith("]"):
            return None
        host = host[1:-1]
    elif ":" in host:
        return None
    return None if "[" in host or "]" in host + port or "[" in port else (host, port)


def _strip_port(text: str) -> str:
    split = split_host_port(text)
    return text if split is None else split[0]


def _strip_domain(text: str) -> str:
    host, port = split_host_port(text) or (text, "")
    try:
        ipaddress.ip_address(host)
    except ValueError:
        host = host.split(".")[0]
    else:
        return text
    if not port:
        return host
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _time(value: Any) -> Time:
    """Cut to milliseconds, as upstream does."""
    seconds = text_functions.to_float(value)
    if seconds != seconds or abs(seconds) == float("inf"):  # noqa: PLR0124 - NaN
        raise FunctionError("value is NaN or Inf")
    ns = seconds * NS
    if not -(2.0**63) <= ns < 2.0**63:
        raise FunctionError(
            f"{seconds} cannot be represented as a nanoseconds timestamp since it overflows int64"
        )
    whole = int(ns)
    ms = whole // 1_000_000 if whole >= 0 else -(-whole // 1_000_000)
    return Time(ms * 1_000_000)


def _duration(value: Any) -> Duration:
    seconds = text_functions.to_float(value)
    if seconds != seconds or abs(seconds) >= 2**63 / 1e9:  # noqa: PLR0124 - NaN
        raise FunctionError(f"{seconds} s do not fit a duration")
    return Duration(int(seconds * NS))


def _humanize_timestamp(value: Any) -> str:
    number = text_functions.to_float(value)
    if number != number or abs(number) == float("inf"):  # noqa: PLR0124 - NaN
        return text_functions.humanize(number)
    return str(_time(number))


def _parse_duration(text: str) -> float:
    sign = -1 if text.startswith("-") else 1
    try:
        return sign * parse_duration(text.removeprefix("-"))
    except ValueError as error:
        raise FunctionError(str(error)) from None


def _link(tab: int) -> Callable[[str], str]:
    return lambda expr: f"/graph?g0.expr={escape_query(expr)}&g0.tab={tab}"


_FUNCTIONS: Final[Mapping[str, Function]] = {
    "first": Function((_VECTOR,), _first),
    "label": Function((STRING, _SAMPLE), _label),
    "value": Function((_SAMPLE,), lambda sample: _given(sample).value),
    "strvalue": Function((_SAMPLE,), lambda sample: _label("__value__", sample)),
    "sortByLabel": Function((STRING, _VECTOR), _sorted),
    "args": Function(
        (ANY,), lambda *values: {f"arg{i}": v for i, v in enumerate(values)}, variadic=True
    ),
    "reReplaceAll": Function((STRING, STRING, STRING), text_functions.replace_all, bounded=True),
    "match": Function((STRING, STRING), text_functions.matches),
    "safeHtml": Function((STRING,), SafeHtml),
    "title": Function((STRING,), text_functions.title_keeping),
    "toUpper": Function((STRING,), text_functions.to_upper),
    "toLower": Function((STRING,), text_functions.to_lower),
    "graphLink": Function((STRING,), _link(0)),
    "tableLink": Function((STRING,), _link(1)),
    "stripPort": Function((STRING,), _strip_port),
    "stripDomain": Function((STRING,), _strip_domain),
    "humanize": Function((ANY,), text_functions.humanize),
    "humanize1024": Function((ANY,), text_functions.humanize_1024),
    "humanizeDuration": Function((ANY,), text_functions.humanize_duration),
    "humanizePercentage": Function((ANY,), text_functions.humanize_percentage),
    "humanizeTimestamp": Function((ANY,), _humanize_timestamp),
    "toTime": Function((ANY,), _time),
    "toDuration": Function((ANY,), _duration),
    "parseDuration": Function((STRING,), _parse_duration),
    "urlQueryEscape": Function((STRING,), escape_query),
}

FUNCTION_NAMES: Final = frozenset([*_FUNCTIONS, "query", "externalURL", "pathPrefix", "now"])
