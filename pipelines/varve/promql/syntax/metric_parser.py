"""Parses the labels of one series, `name{label="value"}`, as tests of rules write them."""

from __future__ import annotations

from varve.promql.syntax.ast import MatchOp
from varve.promql.syntax.cursor import Cursor
from varve.promql.syntax.selector_parser import METRIC_WORDS, named_selector, nameless_selector
from varve.promql.syntax.tokens import END, METRIC_NAME, NAME


def parse_metric(text: str) -> dict[str, str]:
    """The labels of a series, the name among them; empty ones are left out. Raises ParseError."""
    c = Cursor(text)
    if c.kind == END:
        return {}
    if c.kind in (NAME, METRIC_NAME) or c.kind in METRIC_WORDS:
        selector = named_selector(c)
    elif c.kind == "{":
        selector = nameless_selector(c)
    else:
        raise c.unexpected("metric", 'a metric name or "{"')
    if c.kind != END:
        raise c.unexpected("metric", "the end of the series")
    labels: dict[str, str] = {}
    for matcher in selector.matchers:
        if matcher.op is not MatchOp.EQUAL:
            raise c.error(f"unexpected {matcher.op.value} in metric, expected =", selector.span)
        if matcher.value:
            labels[matcher.name] = matcher.value
    return labels
