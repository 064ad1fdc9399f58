"""What series, labels and metrics there are.

Source: Prometheus 3, web/api/v1/api.go (series, labelNames, labelValues, metricMetadata, ...).
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np

from varve.api.call import TRUNCATED, Answer, Call, limited
from varve.model.errors import BadRequest
from varve.model.metadata import Metadata
from varve.promql import result_json
from varve.promql.label_json import text_array
from varve.query.derived_metrics import METRICS

_ESCAPED = re.compile(r"__|_([0-9a-fA-F]{1,6})_")


def series(call: Call) -> Answer:
    """Answers with the label sets of the series that match[] selects, each once."""
    given = call.parameters
    matchers = given.matchers(required=True)
    rows, most = call.storage.series(matchers, *given.time_bounds_ms()), given.limit()
    check = call.options.check_running
    if not most or rows.size <= most:
        return Answer(result_json.label_sets(rows, check))
    return Answer(result_json.label_sets(rows.take(np.arange(most)), check), [TRUNCATED])


def label_names(call: Call) -> Answer:
    """Answers with the names of labels of the series that match[] selects, of all without it."""
    given = call.parameters
    matchers = given.matchers(required=False)
    return limited(call.storage.label_names(matchers, *given.time_bounds_ms()), given.limit())


def label_values(call: Call) -> Answer:
    """Answers with the values of a label over the series that match[] selects, of all without it.

    A name U__... is escaped as in Prometheus 3.
    """
    given, name = call.parameters, call.path["name"]
    if name.startswith("U__"):
        name = _unescaped(name)
    if not name:
        raise BadRequest(f'invalid label name: "{name}"')
    matchers = given.matchers(required=False)
    values = call.storage.label_values(name, matchers, *given.time_bounds_ms())
    answer = limited(values, given.limit())
    return replace(answer, data=text_array(answer.data, call.options.check_running))


def metadata(call: Call) -> Answer:
    """Answers with type, unit and help of each metric, or of the one asked for.

    A metric has one entry, so that limit_per_metric leaves nothing out.
    """
    most, wanted = call.parameters.limit(), call.parameters.get("metric")
    call.parameters.limit("limit_per_metric")
    known = call.view.metadata() | _derived(call)
    names = [wanted] if wanted else sorted(known)
    chosen = [name for name in names if name in known]
    return Answer(
        {
            name: [{"type": known[name].type, "unit": known[name].unit, "help": known[name].help}]
            for name in (chosen[:most] if most else chosen)
        }
    )


def _derived(call: Call) -> dict[str, Metadata]:
    """That of derived metrics whose tables have rows."""
    has_rows = call.view.derived.has_rows
    return {m.name: Metadata(m.type, "", m.help) for m in METRICS.values() if has_rows(m.table)}


def _unescaped(name: str) -> str:
    """Turns U__a_2e_b to a.b and U__a__b to a_b. BadRequest if a code is no character."""

    def character(match: re.Match[str]) -> str:
        return chr(int(match[1], 16)) if match[1] else "_"

    try:
        return _ESCAPED.sub(character, name.removeprefix("U__"))
    except ValueError as err:
        raise BadRequest(f'invalid label name: "{name}"') from err
