"""Series selectors of the settings, as PromQL writes them, matched against labels."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from varve.model.errors import NeedsOperator
from varve.promql.errors import QueryError
from varve.promql.syntax.ast import Binary, Expr, Matcher, MatchOp, Paren, VectorSelector
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import METRIC_LABEL
from varve.promql.syntax.regexes import compile_anchored

Labels = Mapping[str, str]


def any_of(text: str, setting: str) -> Callable[[str, Labels], bool]:
    """Whether a metric name and labels match one of the selectors that `or` joins.

    Raises NeedsOperator, naming the setting, if the text is something else.

    >>> is_critical = any_of('{severity="page"} or up', "gateway.critical")
    >>> is_critical("up", {}), is_critical("x", {"severity": "page"}), is_critical("x", {})
    (True, True, False)
    """
    if not text.strip():
        return lambda _metric, _labels: False
    tests = [
        [_test(matcher) for matcher in selector.matchers]
        for selector in _selectors(_parsed(text, setting), text, setting)
    ]

    def matches(metric: str, labels: Labels) -> bool:
        return any(all(test(metric, labels) for test in selector) for selector in tests)

    return matches


def labels_of(text: str, setting: str) -> dict[str, str]:
    """The labels that `{name="value", ...}` says. Raises NeedsOperator, naming the setting.

    >>> labels_of('{region="eu", zone="a"}', "gateway.sender_labels.x")
    {'region': 'eu', 'zone': 'a'}
    """
    found = _parsed(text, setting)
    if not isinstance(found, VectorSelector) or any(
        m.op is not MatchOp.EQUAL or m.name == METRIC_LABEL for m in found.matchers
    ):
        raise NeedsOperator(f'{setting}: {text!r} is not written as {{region="eu"}}')
    return {m.name: m.value for m in found.matchers}


def _parsed(text: str, setting: str) -> Expr:
    try:
        return parse(text)
    except QueryError as err:
        raise NeedsOperator(f"{setting}: {text!r} is no series selector: {err}") from err


def _selectors(found: Expr, text: str, setting: str) -> Iterator[VectorSelector]:
    while isinstance(found, Paren):
        found = found.expr
    if isinstance(found, Binary) and found.op == "or":
        yield from _selectors(found.lhs, text, setting)
        yield from _selectors(found.rhs, text, setting)
    elif isinstance(found, VectorSelector):
        yield found
    else:
        raise NeedsOperator(f"{setting}: {text!r} is not a series selector, nor some joined by or")


def _test(matcher: Matcher) -> Callable[[str, Labels], bool]:
    name, value = matcher.name, matcher.value
    is_regex = matcher.op in (MatchOp.REGEX, MatchOp.NOT_REGEX)
    wanted = matcher.op in (MatchOp.EQUAL, MatchOp.REGEX)
    pattern = compile_anchored(value) if is_regex else None

    def test(metric: str, labels: Labels) -> bool:
        found = metric if name == METRIC_LABEL else labels.get(name, "")
        matched = pattern.fullmatch(found) is not None if pattern else found == value
        return matched is wanted

    return test
