"""PromQL that selects one series, or what is derived of it."""

from __future__ import annotations

from collections.abc import Mapping

from varve.promql.labels.label_table import METRIC_NAME
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.query.derived_metrics import METRIC_LABEL
from varve.query.selectors import selector_text


def selector_of(metric: str, tags: Mapping[str, str]) -> str:
    """A selector of the series with these labels; series that have more match, too."""
    return selector_text(_equal({METRIC_NAME: metric, **tags}))


def expected_text(derived: str, metric: str, tags: Mapping[str, str], **extra: str) -> str:
    """A selector of a derived metric of a series."""
    return selector_text(_equal({METRIC_NAME: derived, **tags, METRIC_LABEL: metric, **extra}))


def _equal(labels: Mapping[str, str]) -> list[Matcher]:
    return [Matcher(name, MatchOp.EQUAL, value) for name, value in labels.items() if value]
