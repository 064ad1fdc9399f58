"""Files of rule tests in promtool's format. Source: Prometheus, cmd/promtool/unittest.go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from varve.promql.errors import BadQueryError
from varve.promql.labels.label_table import Labels
from varve.promql.syntax.literals import format_duration
from varve.promql.syntax.metric_parser import parse_metric
from varve.rules.errors import Problem, RuleFileError
from varve.rules.instant import Value
from varve.rules.label_sets import labels_of
from varve.rules.series_notation import read_histogram, read_values
from varve.rules.yaml_tree import Fields, Tree, read

_FILE: Final = frozenset(
    ["rule_files", "evaluation_interval", "group_eval_order", "tests", "fuzzy_compare"]
)
_TEST: Final = frozenset(
    [
        *("interval", "input_series", "alert_rule_test", "promql_expr_test", "external_labels"),
        *("external_url", "name", "start_timestamp"),
    ]
)
_ALERT_TEST: Final = frozenset(["eval_time", "alertname", "exp_alerts"])
_ALERT: Final = frozenset(["exp_labels", "exp_annotations"])
_EXPR_TEST: Final = frozenset(["expr", "eval_time", "exp_samples"])
_SAMPLE: Final = frozenset(["labels", "value", "histogram"])
_SERIES: Final = frozenset(["series", "values"])
_DEFAULT_INTERVAL_MS: Final = 60_000
_HISTOGRAM = re.compile(r"\s*\{\{([^{}]*)\}\}\s*")


@dataclass(frozen=True, slots=True)
class InputSeries:
    """A series with a value for each interval; None where there is no sample."""

    labels: Labels
    values: tuple[Value | None, ...]


@dataclass(frozen=True, slots=True)
class ExpectedAlert:
    labels: Labels
    annotations: Labels


@dataclass(frozen=True, slots=True)
class AlertTest:
    """The alerts of that name that fire at a time, in ms since the start."""

    eval_time_ms: int
    alertname: str
    expected: tuple[ExpectedAlert, ...]


@dataclass(frozen=True, slots=True)
class ExprTest:
    """What an expression gives at a time. problem: why the expectation cannot be read."""

    expr: str
    eval_time_ms: int
    expected: tuple[tuple[Labels, Value], ...]
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Test:
    """One entry of `tests`. Times are Unix ms, durations ms. problem: why it cannot be run."""

    __test__ = False  # it is none for pytest

    name: str
    start_ms: int
    interval_ms: int
    series: tuple[InputSeries, ...]
    alert_tests: tuple[AlertTest, ...]
    expr_tests: tuple[ExprTest, ...]
    external_labels: Mapping[str, str]
    external_url: str
    problem: str = ""

    @property
    def until_ms(self) -> int:
        """Up to when rules are evaluated."""
        times = [test.eval_time_ms for test in self.alert_tests]
        times += [test.eval_time_ms for test in self.expr_tests]
        return self.start_ms + max(times, default=0)


@dataclass(frozen=True, slots=True)
class TestFile:
    """A file of tests. rule_files: patterns, relative to the file's folder."""

    __test__ = False

    rule_files: tuple[str, ...]
    evaluation_interval_ms: int
    group_order: tuple[str, ...]
    fuzzy_compare: bool
    tests: tuple[Test, ...]


def parse_test_file(text: str) -> TestFile:
    """Reads a file of tests. Raises RuleFileError with all that is wrong with it."""
    problems: list[Problem] = []
    tree = read(text, problems)
    if tree is None:
        return TestFile((), _DEFAULT_INTERVAL_MS, (), False, ())
    top = tree.fields(_FILE, "the file")
    interval_ms = top.duration_ms("evaluation_interval") or _DEFAULT_INTERVAL_MS
    order = [item.text() for item in top.items("group_eval_order")]
    for item, name in zip(top.items("group_eval_order"), order, strict=True):
        if order.count(name) > 1:
            item.problem(f"group name repeated in evaluation order: {name}")
    parsed = TestFile(
        tuple(item.text() for item in top.items("rule_files")),
        interval_ms,
        tuple(order),
        top.boolean("fuzzy_compare"),
        tuple(_test(item, interval_ms) for item in top.items("tests")),
    )
    if problems:
        raise RuleFileError(problems)
    return parsed


def _test(tree: Tree, interval_ms: int) -> Test:
    fields = tree.fields(_TEST, "a test")
    series, problem = [], ""
    for item in fields.items("input_series"):
        one = item.fields(_SERIES, "a series")
        try:
            labels = labels_of(parse_metric(one.text("series")))
            series.append(InputSeries(labels, tuple(read_values(one.text("values")))))
        except (BadQueryError, ValueError) as error:
            problem = (
                problem or f"{item.line}:{item.column}: series {one.text('series')!r}: {error}"
            )
    name = fields.text("name")
    alert_tests = [_alert_test(item) for item in fields.items("alert_rule_test")]
    for alert_test in alert_tests:
        if not alert_test.alertname:
            where = f" (in TestGroup {name})" if name else ""
            problem = problem or (
                "an item under alert_rule_test misses required attribute alertname"
                f" at eval_time {format_duration(alert_test.eval_time_ms / 1000)}{where}"
            )
    return Test(
        name,
        _start_ms(fields),
        fields.duration_ms("interval") or interval_ms,
        tuple(series),
        tuple(alert_tests),
        tuple(_expr_test(item) for item in fields.items("promql_expr_test")),
        fields.texts("external_labels"),
        fields.text("external_url"),
        problem,
    )


def _start_ms(fields: Fields) -> int:
    text = fields.text("start_timestamp")
    if not text:
        return 0
    try:
        return round(float(text) * 1000)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        fields.tree("start_timestamp").problem(
            f"a Unix time in seconds or one of RFC 3339 is wanted here, not {text!r}"
        )
        return 0
    return round(moment.timestamp() * 1000)


def _alert_test(tree: Tree) -> AlertTest:
    fields = tree.fields(_ALERT_TEST, "an alert_rule_test")
    name, expected = fields.text("alertname"), []
    for item in fields.items("exp_alerts"):
        one = item.fields(_ALERT, "an alert")
        labels = one.texts("exp_labels") | {"alertname": name}
        annotations = tuple(sorted(one.texts("exp_annotations").items()))
        expected.append(ExpectedAlert(labels_of(labels), annotations))
    time_ms = fields.duration_ms("eval_time")
    return AlertTest(time_ms, name, tuple(expected))


def _expr_test(tree: Tree) -> ExprTest:
    fields = tree.fields(_EXPR_TEST, "a promql_expr_test")
    expected, problem = [], ""
    for item in fields.items("exp_samples"):
        one = item.fields(_SAMPLE, "a sample")
        value: Value = one.found["value"].number() if "value" in one else 0.0
        try:
            if histogram := one.text("histogram"):
                match = _HISTOGRAM.fullmatch(histogram)
                value = read_histogram(match[1] if match else histogram)
            expected.append((labels_of(parse_metric(one.text("labels"))), value))
        except (BadQueryError, ValueError) as error:
            problem = problem or f'labels "{one.text("labels")}": {error}'
    time_ms = fields.duration_ms("eval_time")
    return ExprTest(fields.text("expr"), time_ms, tuple(expected), problem)
