"""What one query may take, for the processes that evaluate some."""

from __future__ import annotations

from varve.promql.evaluation.limits import Limits
from varve.settings.query import Query


def query_limits(query: Query) -> Limits:
    """The limits that the settings name."""
    return Limits(
        max_samples=query.max_samples,
        max_series=query.max_series,
        max_points=query.max_points,
        timeout_s=query.timeout_s,
    )
