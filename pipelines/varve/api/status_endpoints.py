"""What the service says of itself: version, settings, features, how it runs.

Source: Prometheus 3, web/api/v1/api.go (serveRuntimeInfo, serveConfig, serveFlags, ...), features.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Iterable

from varve import __version__
from varve.api.call import Answer, Call
from varve.model.clock import utc_text
from varve.model.errors import BadRequest
from varve.promql.function_table import AGGREGATIONS, FUNCTIONS
from varve.promql.syntax.tokens import FILLS, MODIFIERS, SYMBOLIC_OPERATORS, WORD_OPERATORS
from varve.query import cardinality

# Rows of each list of the status, as in Prometheus.
_STATUS_ROWS = 10

# Under Prometheus' names, which its clients look for.
_API_FEATURES = ("admin", "exclude_alerts", "label_values_match", "query_stats", "query_warnings")
_NO_FEATURES = frozenset({"admin", "exclude_alerts"})
_PROMQL_FEATURES = (
    "at_modifier",
    "delayed_name_removal",
    "duration_expr",
    "negative_offset",
    "per_query_lookback_delta",
    "subqueries",
)


def version() -> dict[str, str]:
    """The application and its version, with all keys that Prometheus has."""
    return {
        "application": "Varve",
        "version": __version__,
        **dict.fromkeys(("revision", "branch", "buildUser", "buildDate", "goVersion"), ""),
        "pythonVersion": platform.python_version(),
    }


def build_info(_: Call) -> Answer:
    """Answers with the application and its version."""
    return Answer(version())


def runtime_info(call: Call) -> Answer:
    """Answers with how the process runs: since when, where, on how many cores."""
    process = call.process
    return Answer(
        {
            "startTime": utc_text(process.started_ms),
            "CWD": os.getcwd(),  # noqa: PTH109 - as text
            "hostname": socket.gethostname(),
            "serverTime": utc_text(call.now_ms),
            "reloadConfigSuccess": True,
            "lastConfigTime": utc_text(process.started_ms),
            "corruptionCount": 0,
            "goroutineCount": 0,
            "GOMAXPROCS": len(os.sched_getaffinity(0)),
            "GOMEMLIMIT": process.memory_bytes,
            "GOGC": "",
            "GODEBUG": "",
            "storageRetention": process.flags.get("storage.tsdb.retention.time", ""),
        }
    )


def config(call: Call) -> Answer:
    """Answers with every setting in force, secrets hidden, as YAML."""
    return Answer({"yaml": call.process.config})


def flags(call: Call) -> Answer:
    """Answers with settings under the names that Prometheus has for them."""
    return Answer(dict(call.process.flags))


def features(_: Call) -> Answer:
    """Answers with what there is of Prometheus' features, under its names."""
    return Answer(
        {
            "api": {name: name not in _NO_FEATURES for name in _API_FEATURES},
            "promql": _all(_PROMQL_FEATURES, MODIFIERS),
            "promql_functions": _all(FUNCTIONS),
            "promql_operators": _all(
                (SYMBOLIC_OPERATORS | WORD_OPERATORS) - FILLS - {"@"}, AGGREGATIONS
            ),
        }
    )


def tsdb_status(call: Call) -> Answer:
    """Answers with the metrics, labels and pairs of most series: of those seen from start to end,
    or ever registered without these.
    """
    view, bounds = call.view, call.parameters.time_bounds_ms()
    is_bounded = bool(call.parameters.get("start") or call.parameters.get("end"))
    labels = call.reader.series([], *bounds) if is_bounded else view.index.labels
    found = cardinality.counts(labels, call.parameters.limit() or _STATUS_ROWS)
    pieces, first_ms, last_ms = view.extent()
    head = {"numSeries": found.series, "numLabelPairs": found.label_pairs, "chunkCount": pieces}
    lists = {
        "seriesCountByMetricName": found.series_of_metric,
        "labelValueCountByLabelName": found.values_of_label,
        "memoryInBytesByLabelName": found.bytes_of_label,
        "seriesCountByLabelValuePair": found.series_of_pair,
    }
    return Answer(
        {"headStats": head | {"minTime": first_ms, "maxTime": last_ms}}
        | {
            name: [{"name": entry, "value": number} for entry, number in ranked]
            for name, ranked in lists.items()
        }
    )


def storage_usage(call: Call) -> Answer:
    """Answers with what the stored bytes are spent on, as `varve usage` does."""
    if call.process.usage is None:
        raise BadRequest("this service does not know where the tables are")
    return Answer(call.process.usage(call.parameters.limit() or _STATUS_ROWS))


def _all(*names: Iterable[str]) -> dict[str, bool]:
    return dict.fromkeys(sorted(name for some in names for name in some), True)
