"""Series selectors of the settings, as PromQL writes them, matched against labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from varve.model.errors import NeedsOperator
from varve.promql.errors import QueryError
from varve.promql.syntax.ast import Matcher, MatchOp, VectorSelector
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import METRIC_LABEL
from varve.promql.syntax.regexes import compile_anchored

Labels = Mapping[str, str]


def any_of(texts: Iterable[str], setting: str) -> Callable[[str, Labels], bool]:
    """Whether a metric name and labels match one of the selectors.

    Raises NeedsOperator, naming the setting, if a text is no selector.

    >>> is_critical = any_of(['{severity="page"}', "up"], "gateway.critical")
    >>> is_critical("up", {}), is_critical("x", {"severity": "page"}), is_critical("x", {})
    (True, True, False)
    """
    tests = [[_test(m) for m in _matchers(text, setting)] for text in texts]

    def matches(metric: str, labels: Labels) -> bool:
        return any(all(test(metric, labels) for test in selector) for selector in tests)

    return matches


def _matchers(text: str, setting: str) -> tuple[Matcher, ...]:
    try:
        found = parse(text)
    except QueryError as err:
        raise NeedsOperator(f"{setting}: {text!r} is no series selector: {err}") from err
    if not isinstance(found, VectorSelector):
        raise NeedsOperator(f"{setting}: {text!r} is no series selector")
    return found.matchers


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
