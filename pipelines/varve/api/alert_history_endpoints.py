"""What happened to alerts, of rules and of other jobs: rows of the table alerts, for the page."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import pyarrow.compute as pc

from varve.api.call import Answer, Call
from varve.model.errors import BadRequest, NeedsOperator
from varve.promql.labels.postings import value_test
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

Test = Callable[[str], bool]

_TABLE: Final = "alerts"
_MOST: Final = 10_000
"""Changes that are answered with at most, whatever limit says."""


def alert_history(call: Call) -> Answer:
    """Answers with the changes of state of alerts that were evaluated between start and end, the
    newest first. match[]: of alerts with such labels. Raises BadRequest for what is no selector.
    """
    if call.store is None:
        raise BadRequest("this service reads no tables but those of samples")
    start_ms, end_ms = call.parameters.time_bounds_ms()
    most = min(call.parameters.limit() or _MOST, _MOST)
    selectors = [
        [(one.name, value_test(one)) for one in matchers]
        for matchers in call.parameters.matchers(required=False)
    ]
    try:
        # Bounds are left-open, as windows are.
        rows = snapshot(call.store, _TABLE).scan(Bounds(start_ms=start_ms - 1, end_ms=end_ms))
    except NeedsOperator:  # no rule was ever evaluated
        return Answer([])
    order = pc.sort_indices(rows, [("evaluated_at", "descending"), ("event_id", "descending")])
    found: list[dict[str, Any]] = []
    for batch in rows.take(order).to_batches(max_chunksize=_MOST):
        for row in batch.to_pylist():
            labels = dict(row["labels"])
            if not selectors or any(_selects(one, labels) for one in selectors):
                value = None if row["value"] is None else str(row["value"])
                annotations = dict(row["annotations"])
                texts = {"labels": labels, "annotations": annotations, "value": value}
                found.append(row | texts)
                if len(found) == most:
                    return Answer(found)
    return Answer(found)


def _selects(tests: Sequence[tuple[str, Test]], labels: Mapping[str, str]) -> bool:
    return all(test(labels.get(name, "")) for name, test in tests)
