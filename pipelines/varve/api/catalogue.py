"""What there is: series, label names and values, metadata of metrics, and what serves them."""

from __future__ import annotations

import platform
import re
from typing import Any

from varve import __version__
from varve.api import parameters
from varve.api.parameters import Parameters, invalid
from varve.model.errors import BadRequest
from varve.query import cardinality
from varve.query.view import View

TRUNCATED = "results truncated due to limit"

# Of each list of the status, as in Prometheus.
_STATUS_ROWS = 10

_ESCAPED = re.compile(r"__|_([0-9a-fA-F]{1,6})_")

Listed = tuple[list[Any], list[str]]
"""Items and warnings."""


def series(view: View, given: Parameters) -> Listed:
    """Label sets of the series that match[] selects, each once."""
    matchers = parameters.matchers(given, required=True)
    start, end = _range(given)
    rows = view.series(matchers, start, end)
    return _limited(list(rows.dicts()), given)


def label_names(view: View, given: Parameters) -> Listed:
    """Names of labels of the series that match[] selects, of all without it."""
    matchers = parameters.matchers(given, required=False)
    return _limited(view.label_names(matchers, *_range(given)), given)


def label_values(view: View, given: Parameters, name: str) -> Listed:
    """Values of a label, likewise. A name U__... is escaped as in Prometheus 3."""
    if name.startswith("U__"):
        name = _unescaped(name)
    if not name:
        raise BadRequest(f'invalid label name: "{name}"')
    matchers = parameters.matchers(given, required=False)
    return _limited(view.label_values(name, matchers, *_range(given)), given)


def metadata(view: View, given: Parameters) -> dict[str, list[dict[str, str]]]:
    """Type, unit and help of each metric, or of the one asked for."""
    most, wanted = parameters.limit(given), given.get("metric")
    known = view.index.metadata
    names = [wanted] if wanted else sorted(known)
    chosen = [name for name in names if name in known]
    return {
        name: [{"type": known[name].type, "unit": known[name].unit, "help": known[name].help}]
        for name in (chosen[:most] if most else chosen)
    }


def tsdb_status(view: View, given: Parameters) -> dict[str, Any]:
    """Metrics, labels and pairs with most series, of all that were ever registered."""
    found = cardinality.counts(view.index.labels, parameters.limit(given) or _STATUS_ROWS)
    pieces, first_ms, last_ms = view.extent()
    head = {"numSeries": found.series, "numLabelPairs": found.label_pairs, "chunkCount": pieces}
    lists = {
        "seriesCountByMetricName": found.series_of_metric,
        "labelValueCountByLabelName": found.values_of_label,
        "memoryInBytesByLabelName": found.bytes_of_label,
        "seriesCountByLabelValuePair": found.series_of_pair,
    }
    return {"headStats": head | {"minTime": first_ms, "maxTime": last_ms}} | {
        name: [{"name": entry, "value": number} for entry, number in ranked]
        for name, ranked in lists.items()
    }


def build_info() -> dict[str, str]:
    return {
        "application": "Varve",
        "version": __version__,
        "revision": "",
        "branch": "",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "pythonVersion": platform.python_version(),
    }


def _range(given: Parameters) -> tuple[int, int]:
    start = parameters.time_ms(given, "start", parameters.MIN_TIME_MS)
    end = parameters.time_ms(given, "end", parameters.MAX_TIME_MS)
    if end < start:
        raise invalid("end", "end timestamp must not be before start time")
    return start, end


def _limited(items: list[Any], given: Parameters) -> Listed:
    most = parameters.limit(given)
    return (items[:most], [TRUNCATED]) if most and len(items) > most else (items, [])


def _unescaped(name: str) -> str:
    """U__a_2e_b is a.b and U__a__b is a_b. BadRequest if a code is no character."""

    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else "_"

    try:
        return _ESCAPED.sub(character, name.removeprefix("U__"))
    except ValueError as err:
        raise BadRequest(f'invalid label name: "{name}"') from err
