"""Evaluates the rules of one group, and keeps what is known between two evaluations.

Source: Prometheus, rules/group.go.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from varve.model.staleness import STALE_NAN
from varve.promql.engine import Engine
from varve.promql.errors import QueryError
from varve.promql.labels.label_table import Labels
from varve.promql.storage import Storage
from varve.rules import alerts as alerting
from varve.rules.alerts import Alerts, Environment, Sent, TooManyAlerts
from varve.rules.dependencies import levels
from varve.rules.errors import RuleError
from varve.rules.for_state import Restoring, active_since
from varve.rules.instant import Element, Sample, elements_of
from varve.rules.label_sets import labels_of
from varve.rules.recording import record
from varve.rules.rule_file import AlertingRule, Group, Rule
from varve.rules.series_buffer import SeriesBuffer
from varve.templates.errors import FunctionError

Jobs = Callable[[Callable[[int], "RuleOutcome"], Iterable[int]], Iterable["RuleOutcome"]]
"""Calls a function for each of some numbers, in turn or side by side, as `map` does."""


KnownVectors = Callable[[Rule, int], list[Element] | None]


class Part(StrEnum):
    """Which rules of a group an evaluation is about.

    Where data is incomplete the alerting ones alone are evaluated, and the recording ones later:
    of two copies of a sample the greater counts, so what is written must be right at once.
    """

    ALL = "all"
    ALERTING = "alerting"
    RECORDING = "recording"

    def has(self, rule: Rule) -> bool:
        if self is Part.ALL:
            return True
        return isinstance(rule, AlertingRule) == (self is Part.ALERTING)


class Series(Protocol):
    """What rules read, and where they write."""

    @property
    def storage(self) -> Storage:
        """All series, those included that were written."""
        ...

    def write(self, samples: Iterable[Sample]) -> None:
        """Takes samples; `storage` has them from now on."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluator:
    """How rules are evaluated. Times are in ms.

    interval_ms, query_offset_ms: of groups that set none. resend_ms: a firing alert is sent again
    once more than that has passed. engine: how queries are evaluated; it keeps their plans, and its
    own storage is not looked at. jobs: how independent rules are run. timer: seconds that only go
    forward, to say how long an evaluation took.
    """

    interval_ms: int = 60_000
    query_offset_ms: int = 0
    resend_ms: int = 60_000
    environment: Environment = field(default_factory=Environment)
    restoring: Restoring = field(default_factory=Restoring)
    engine: Engine = field(default_factory=lambda: Engine(SeriesBuffer()))
    jobs: Jobs = map
    timer: Callable[[], float] = time.perf_counter

    def interval_of(self, group: Group) -> int:
        return self.interval_ms if group.interval_ms is None else group.interval_ms

    def offset_of(self, group: Group) -> int:
        return self.query_offset_ms if group.query_offset_ms is None else group.query_offset_ms


@dataclass(slots=True)
class RuleRun:
    """A rule and what its last evaluation left.

    series: those it wrote. health: unknown, ok or err. evaluated_at_ms: the time it was evaluated
    for, None before the first time. took_s: seconds.
    """

    rule: Rule
    alerts: Alerts = field(default_factory=dict)
    series: frozenset[Labels] = frozenset()
    health: str = "unknown"
    error: str = ""
    evaluated_at_ms: int | None = None
    took_s: float = 0.0

    @property
    def key(self) -> tuple[str, Labels]:
        """What a rule of a new file is known again by: its name and labels."""
        return self.rule.name, labels_of(self.rule.label_texts)


@dataclass(frozen=True, slots=True)
class RuleOutcome:
    """What one rule gave: the series to write, alerts to send. error: why it gave nothing."""

    samples: tuple[Sample, ...] = ()
    alerts: Alerts | None = None
    sent: tuple[Sent, ...] = ()
    error: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class GroupOutcome:
    """What an evaluation of a group gave, in the order of its rules.

    reviewed: by place of a rule, the alerts it would have, of those that were asked about.
    """

    samples: tuple[Sample, ...]
    sent: tuple[tuple[AlertingRule, Sent], ...]
    reviewed: Mapping[int, Alerts] = field(default_factory=dict)


class GroupRun:
    """A group that is evaluated again and again, by one thread at a time."""

    def __init__(self, group: Group, *, restores: bool = False) -> None:
        """restores: whether the for-state is taken from the series at the first evaluation."""
        self.group = group
        self.rules = [RuleRun(rule) for rule in group.rules]
        self.evaluated_at_ms: int | None = None
        self.took_s = 0.0
        self._restores = restores
        self._ended: frozenset[Labels] = frozenset()
        self._levels = levels(group.rules)

    def take_over(self, before: GroupRun) -> None:
        """Goes on with the state of a group that this one replaces.

        A rule goes on as the one of the same name and labels. The series of those that are gone end
        at the next evaluation.
        """
        self.evaluated_at_ms, self.took_s = before.evaluated_at_ms, before.took_s
        self._restores = before._restores
        left: dict[tuple[str, Labels], list[RuleRun]] = {}
        for run in before.rules:
            left.setdefault(run.key, []).append(run)
        for run in self.rules:
            if same := left.get(run.key):
                known = same.pop(0)
                run.series = known.series
                if isinstance(run.rule, AlertingRule) and isinstance(known.rule, AlertingRule):
                    run.alerts = known.alerts
        gone = [run.series for runs in left.values() for run in runs]
        self._ended = frozenset().union(before._ended, *gone)

    def restore(self) -> None:
        """Takes the for-state of alerts from their series, at the next evaluation."""
        self._restores = True

    @property
    def open_series(self) -> frozenset[Labels]:
        """All series that the group has written and not ended."""
        return self._ended.union(*(run.series for run in self.rules))

    def evaluate(
        self,
        series: Series,
        evaluator: Evaluator,
        at_ms: int,
        known: KnownVectors = lambda _rule, _ts_ms: None,
        *,
        part: Part = Part.ALL,
        review: Mapping[int, Alerts] | None = None,
    ) -> GroupOutcome:
        """Evaluates all rules for `at_ms`, Unix ms, and writes what they give to `series`.

        known: the vector of a rule at a time if it has been computed already. part: which rules;
        the others stay as they are. review: by place, alerts that rules had before `at_ms`: what
        would have become of them is said, and nothing else of it kept.
        A rule that fails says so in its RuleRun; the others do not mind. Raises StorageError only
        where the for-state cannot be read: nothing has changed then.
        """
        started = evaluator.timer()
        offset_ms = evaluator.offset_of(self.group)
        engine = evaluator.engine.over(series.storage)
        restored = self._restored(series.storage, evaluator, at_ms)
        review = review or {}
        samples: dict[int, tuple[Sample, ...]] = {}
        sent: dict[int, tuple[Sent, ...]] = {}
        reviewed: dict[int, Alerts] = {}
        for level in self._levels:
            asked = [
                place for place in level if part.has(self.rules[place].rule) or place in review
            ]

            def run(place: int) -> RuleOutcome:
                return _evaluated(
                    self.rules[place],
                    review.get(place, self.rules[place].alerts),
                    self.group,
                    engine,
                    evaluator,
                    at_ms,
                    restored[place],
                    known,
                )

            for place, outcome in zip(asked, evaluator.jobs(run, asked), strict=True):
                if place in review:
                    reviewed[place] = review[place] if outcome.alerts is None else outcome.alerts
                    continue
                samples[place] = self._note(place, outcome, at_ms, at_ms - offset_ms)
                sent[place] = outcome.sent
            for place in level:
                series.write(samples.get(place, ()))
        gone: tuple[Sample, ...] = ()
        if part is not Part.ALERTING:
            gone = tuple(_ends(self._ended - self._written(), at_ms - offset_ms))
            series.write(gone)
            self._ended = frozenset()
        if part is not Part.RECORDING:
            self._restores, self.evaluated_at_ms = False, at_ms
        self.took_s = evaluator.timer() - started
        return GroupOutcome(
            tuple(sample for place in sorted(samples) for sample in samples[place]) + gone,
            tuple(
                (rule, one)
                for place in sorted(sent)
                for one in sent[place]
                if isinstance(rule := self.rules[place].rule, AlertingRule)
            ),
            reviewed,
        )

    def _written(self) -> frozenset[Labels]:
        return frozenset().union(*(run.series for run in self.rules))

    def _restored(
        self, storage: Storage, evaluator: Evaluator, at_ms: int
    ) -> list[Mapping[Labels, int]]:
        if not self._restores:
            return [{}] * len(self.rules)
        return [
            active_since(
                run.rule,
                storage,
                at_ms=at_ms,
                offset_ms=evaluator.offset_of(self.group),
                restoring=evaluator.restoring,
            )
            if isinstance(run.rule, AlertingRule)
            else {}
            for run in self.rules
        ]

    def _note(self, place: int, outcome: RuleOutcome, at_ms: int, ts_ms: int) -> tuple[Sample, ...]:
        """Keeps what a rule gave; returns what it writes, ends of series included."""
        run = self.rules[place]
        run.evaluated_at_ms, run.took_s = at_ms, outcome.took_s
        run.health, run.error = ("err", outcome.error) if outcome.error else ("ok", "")
        if outcome.alerts is not None:
            run.alerts = outcome.alerts
        if outcome.error:
            return ()
        written = frozenset(sample.labels for sample in outcome.samples)
        gone = tuple(_ends(run.series - written, ts_ms))
        run.series = written
        return outcome.samples + gone


def _ends(series: Iterable[Labels], ts_ms: int) -> Iterable[Sample]:
    return (Sample(labels, ts_ms, STALE_NAN) for labels in sorted(series))


def _evaluated(
    run: RuleRun,
    alerts: Alerts,
    group: Group,
    engine: Engine,
    evaluator: Evaluator,
    at_ms: int,
    restored: Mapping[Labels, int],
    known: KnownVectors,
) -> RuleOutcome:
    started = evaluator.timer()
    rule, offset_ms = run.rule, evaluator.offset_of(group)

    def took_s() -> float:
        return evaluator.timer() - started

    try:
        vector = known(rule, at_ms - offset_ms)
        if vector is None:
            vector = elements_of(engine.instant(rule.expr, at_ms - offset_ms))
        if not isinstance(rule, AlertingRule):
            samples = record(rule, vector, ts_ms=at_ms - offset_ms, limit=group.limit)
            return RuleOutcome(samples, took_s=took_s())
        outcome = alerting.observe(
            rule,
            alerts,
            vector,
            at_ms=at_ms,
            offset_ms=offset_ms,
            limit=group.limit,
            environment=evaluator.environment,
            query=lambda text: _asked(engine, text, at_ms - offset_ms),
            restored=restored,
        )
    except TooManyAlerts as error:
        return RuleOutcome(alerts={}, error=str(error), took_s=took_s())
    except (QueryError, RuleError) as error:
        return RuleOutcome(error=str(error), took_s=took_s())
    after, sent = alerting.due(
        outcome.alerts,
        at_ms=at_ms,
        resend_ms=evaluator.resend_ms,
        interval_ms=evaluator.interval_of(group),
    )
    return RuleOutcome(outcome.samples, after, sent, took_s=took_s())


def _asked(engine: Engine, text: str, at_ms: int) -> Sequence[tuple[Mapping[str, str], float]]:
    """A query of a template."""
    try:
        vector: list[Element] = elements_of(engine.instant(text, at_ms))
    except (QueryError, RuleError) as error:
        raise FunctionError(str(error)) from None
    return [(dict(element.labels), element.number) for element in vector]
