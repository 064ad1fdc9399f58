"""Runs tests of rules: samples on a timeline, evaluations, what fires and what is recorded.

Source: Prometheus, cmd/promtool/unittest.go.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from varve.promql.errors import QueryError
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.label_table import Labels
from varve.promql.syntax.literals import format_duration, quote
from varve.rules.alerts import Environment, State
from varve.rules.errors import RuleError
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.instant import Sample, Value, elements_of, number_text
from varve.rules.range_ahead import RangeAhead
from varve.rules.rule_file import AlertingRule, Group
from varve.rules.series_buffer import SeriesBuffer
from varve.rules.series_notation import write_histogram
from varve.rules.unit_test_file import AlertTest, ExpectedAlert, ExprTest, Test, TestFile
from varve.templates.go_time import Duration as GoDuration

Compared = tuple[str, str]
"""What was expected and what came, as text."""


@dataclass(frozen=True, slots=True)
class Failure:
    """What one test found wrong. compared: for a difference to be shown."""

    text: str
    compared: Compared | None = None


def run_test(
    test: Test,
    file: TestFile,
    groups: Sequence[Group],
    *,
    evaluator: Evaluator | None = None,
    on_evaluation: Callable[[int], None] = lambda _at_ms: None,
) -> list[Failure]:
    """What is wrong; nothing if all is as expected.

    Every group is evaluated at the start and every evaluation_interval after it, up to the last
    time that is looked at. on_evaluation: told of each such time, in Unix ms.
    """
    if test.problem:
        return [Failure(f"    {test.problem}")]
    run = _Run(test, file, groups, evaluator or Evaluator())
    return list(run.failures(on_evaluation))


class _Run:
    def __init__(
        self, test: Test, file: TestFile, groups: Sequence[Group], evaluator: Evaluator
    ) -> None:
        self._test = test
        self._file = file
        environment = Environment(test.external_labels, test.external_url)
        self._evaluator = replace(evaluator, interval_ms=test.interval_ms, environment=environment)
        places = {name: place for place, name in enumerate(file.group_order)}
        ordered = sorted(groups, key=lambda group: places.get(group.name, 0))
        self._runs = [GroupRun(group) for group in ordered]
        self._series = SeriesBuffer()
        given = SeriesBuffer()
        given.write(_samples(test))
        self._known = RangeAhead(
            evaluator.engine.over(given),
            [rule for group in groups for rule in group.rules],
            step_ms=file.evaluation_interval_ms,
            until_ms=test.until_ms,
        )
        self._incoming = sorted(_samples(test), key=lambda sample: -sample.ts_ms)

    def failures(self, on_evaluation: Callable[[int], None]) -> Iterator[Failure]:
        test, interval_ms = self._test, self._file.evaluation_interval_ms
        for at_ms in range(test.start_ms, test.until_ms + 1, interval_ms):
            on_evaluation(at_ms)
            faults = list(self._evaluate(at_ms))
            if faults:
                yield from faults
                return
            for alert_test in sorted(test.alert_tests, key=lambda one: one.eval_time_ms):
                if (
                    at_ms - test.start_ms
                    <= alert_test.eval_time_ms
                    < at_ms - test.start_ms + interval_ms
                ):
                    yield from self._alert_failures(alert_test)
        for expr_test in test.expr_tests:
            yield from self._expr_failures(expr_test)

    def _evaluate(self, at_ms: int) -> Iterator[Failure]:
        while self._incoming and self._incoming[-1].ts_ms <= at_ms:
            self._series.write([self._incoming.pop()])
        for run in self._runs:
            run.evaluate(self._series, self._evaluator, at_ms, self._known)
            for rule in run.rules:
                if rule.error:
                    time = GoDuration(at_ms * 1_000_000)
                    yield Failure(f"    rule: {rule.rule.name}, time: {time}, err: {rule.error}")

    def _alert_failures(self, test: AlertTest) -> Iterator[Failure]:
        got = [
            ExpectedAlert(alert.labels, tuple(sorted(alert.annotations.items())))
            for run in self._runs
            for rule in run.rules
            if isinstance(rule.rule, AlertingRule) and rule.rule.name == test.alertname
            for alert in rule.alerts.values()
            if alert.state is State.FIRING
        ]
        expected = sorted(test.expected, key=_alert_key)
        got.sort(key=_alert_key)
        if expected == got:
            return
        name = f"    name: {self._test.name},\n" if self._test.name else ""
        head = f"{name}    alertname: {test.alertname}, time: {_time_text(test)}, "
        texts = _alerts_text(expected), _alerts_text(got)
        yield Failure(
            f"{head}\n        exp:{_indented(texts[0])}, \n        got:{_indented(texts[1])}", texts
        )

    def _expr_failures(self, test: ExprTest) -> Iterator[Failure]:
        head = f"    expr: {quote(test.expr)}, time: {_time_text(test)},"
        if test.problem:
            yield Failure(f"{head} err: {test.problem}")
            return
        engine = self._evaluator.engine.over(self._series)
        at_ms = self._test.start_ms + test.eval_time_ms
        try:
            elements = elements_of(engine.instant(test.expr, at_ms))
        except (QueryError, RuleError) as error:
            yield Failure(f"{head} err: {error}")
            return
        got = sorted(((e.labels, e.value) for e in elements), key=lambda sample: sample[0])
        expected = sorted(test.expected, key=lambda sample: sample[0])
        if len(got) == len(expected) and all(
            labels == others and _same(value, other, fuzzy=self._file.fuzzy_compare)
            for (labels, value), (others, other) in zip(expected, got, strict=True)
        ):
            return
        texts = _samples_text(expected), _samples_text(got)
        yield Failure(f"{head}\n        exp: {texts[0]}\n        got: {texts[1]}", texts)


def _samples(test: Test) -> Iterator[Sample]:
    for series in test.series:
        for place, value in enumerate(series.values):
            if value is not None:
                yield Sample(series.labels, test.start_ms + place * test.interval_ms, value)


def _same(expected: Value, got: Value, *, fuzzy: bool) -> bool:
    if isinstance(expected, FloatHistogram) or isinstance(got, FloatHistogram):
        return (
            isinstance(expected, FloatHistogram)
            and isinstance(got, FloatHistogram)
            and expected.equals(got)
            and expected.hint == got.hint
        )
    if math.isnan(expected) or math.isnan(got):
        return math.isnan(expected) and math.isnan(got)
    if fuzzy and math.nextafter(expected, got) == got:
        return True
    return expected == got


def _alert_key(alert: ExpectedAlert) -> tuple[Labels, Labels]:
    return alert.labels, alert.annotations


def _set_text(labels: Labels) -> str:
    return "{" + ", ".join(f"{name}={quote(value)}" for name, value in labels) + "}"


def _alerts_text(alerts: Sequence[ExpectedAlert]) -> str:
    if not alerts:
        return "[]"
    shown = [
        f"{place}:\n  Labels:{_set_text(alert.labels)}"
        f"\n  Annotations:{_set_text(alert.annotations)}"
        for place, alert in enumerate(alerts)
    ]
    return "[\n" + ",\n".join(shown) + "\n]"


def _indented(text: str) -> str:
    return text.replace("\n", "\n            ")


def _samples_text(samples: Sequence[tuple[Labels, Value]]) -> str:
    if not samples:
        return "nil"
    return ", ".join(f"{_set_text(labels)} {_value_text(value)}" for labels, value in samples)


def _time_text(test: AlertTest | ExprTest) -> str:
    return format_duration(test.eval_time_ms / 1000)


def _value_text(value: Value) -> str:
    if isinstance(value, FloatHistogram):
        return write_histogram(value)
    return (
        number_text(value) if math.isinf(value) or math.isnan(value) else number_text(value).upper()
    )
