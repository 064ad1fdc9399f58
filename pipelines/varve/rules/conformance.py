"""Puts the rules behind the contract of the alerting judge (shared/alerttest/adapter.py)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from varve.model.staleness import STALE_NAN
from varve.promql.engine import Engine
from varve.promql.syntax.go_numbers import format_f
from varve.rules import api_json
from varve.rules.alerts import Environment
from varve.rules.for_state import Restoring
from varve.rules.group_run import Evaluator
from varve.rules.instant import Sample, elements_of
from varve.rules.label_sets import labels_of
from varve.rules.rule_file import parse_rule_file
from varve.rules.rule_set import RuleSet
from varve.rules.series_buffer import SeriesBuffer
from varve.templates import conformance

_BEFORE = ("stop", "start", "reload")
_FILE = "rules.yml"


class Adapter:
    """Runs plans on a clock of its own."""

    def alert_template(self, case: dict[str, Any]) -> str:
        return conformance.alert_template(case)

    def notification_template(self, case: dict[str, Any]) -> str:
        return conformance.notification_template(case)

    def rules(self, plan: dict[str, Any]) -> dict[str, Any]:
        run = _Run(plan)
        run.to_the_end()
        return {"answers": run.answers, "sent": run.sent}


class _Run:
    def __init__(self, plan: dict[str, Any]) -> None:
        self._plan = plan
        self._evaluator = Evaluator(
            interval_ms=plan["interval_ms"],
            query_offset_ms=plan["offset_ms"],
            resend_ms=plan["resend_ms"],
            environment=Environment(plan["external_labels"], plan["external_url"]),
            restoring=Restoring(plan["tolerance_ms"], plan["grace_ms"]),
        )
        self._series = SeriesBuffer()
        self._incoming = sorted(_points(plan), key=lambda sample: -sample.ts_ms)
        self._text = plan["rules"]
        self._set: RuleSet | None = RuleSet(parse_rule_file(self._text, _FILE), restores=False)
        self.answers: dict[str, Any] = {}
        self.sent: list[dict[str, Any]] = []

    def to_the_end(self) -> None:
        plan = self._plan
        events = list(plan["events"])
        times = {event["at_ms"] for event in events}
        texts = [plan["rules"], *(event["rules"] for event in events if "rules" in event)]
        step_ms = math.gcd(
            *(
                self._evaluator.interval_of(group)
                for text in texts
                for group in parse_rule_file(text, _FILE)
            )
        )
        times |= set(range(plan["start_ms"], plan["until_ms"] + 1, step_ms))
        for at_ms in sorted(times):
            now = [event for event in events if event["at_ms"] == at_ms]
            for event in now:
                if event["kind"] in _BEFORE:
                    self._change(event)
            self._arrive(at_ms)
            self._evaluate(at_ms)
            for event in now:
                if event["kind"] not in _BEFORE:
                    self._answer(event)

    def _arrive(self, at_ms: int) -> None:
        """Samples of the producers, up to now."""
        while self._incoming and self._incoming[-1].ts_ms <= at_ms:
            self._series.write([self._incoming.pop()])

    def _change(self, event: dict[str, Any]) -> None:
        self._text = event.get("rules", self._text)
        if event["kind"] == "stop":
            self._set = None
        elif event["kind"] == "start":
            self._set = RuleSet(parse_rule_file(self._text, _FILE), restores=True)
        elif self._set is not None:
            self._set.update(parse_rule_file(self._text, _FILE))

    def _evaluate(self, at_ms: int) -> None:
        if self._set is None or at_ms > self._plan["until_ms"]:
            return
        for run in self._set:
            if (at_ms - self._plan["start_ms"]) % self._evaluator.interval_of(run.group):
                continue
            outcome = run.evaluate(self._series, self._evaluator, at_ms)
            self.sent += [
                {
                    "at_ms": at_ms,
                    "labels": dict(one.labels),
                    "annotations": dict(one.annotations),
                    "starts_at_ms": one.starts_at_ms,
                    "ends_at_ms": one.ends_at_ms,
                }
                for _, one in outcome.sent
            ]

    def _answer(self, event: dict[str, Any]) -> None:
        if event["kind"] == "look":
            answer: Any = api_json.rules(self._set or (), self._evaluator)
        else:
            result = Engine(self._series).instant(event["expr"], event["at_ms"])
            answer = [
                {"metric": dict(one.labels), "value": format_f(one.number)}
                for one in elements_of(result)
            ]
        self.answers[event["ref"]] = answer


def _points(plan: dict[str, Any]) -> Iterator[Sample]:
    for series in plan["series"]:
        labels = labels_of(series["labels"])
        for at_ms, value in series["points"]:
            yield Sample(labels, at_ms, STALE_NAN if value == "stale" else float(value))
