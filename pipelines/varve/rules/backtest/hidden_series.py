"""The tables without what the rules under test write: they are to see what they give themselves."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from varve.promql.interrupt import Check, never
from varve.promql.labels.label_table import METRIC_NAME, LabelTable
from varve.promql.storage import SelectHints, Selection, Storage, TierChoice, WindowFunction
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.rules.label_sets import ALERT_NAME, ALERTS, FOR_STATE
from varve.rules.rule_file import RecordingRule, Rule

Matchers = Sequence[Matcher]


class HiddenSeries:
    """A storage without the series that some rules write."""

    def __init__(self, below: Storage, rules: Iterable[Rule]) -> None:
        recorded: set[str] = set()
        alerts: set[str] = set()
        for rule in rules:
            (recorded if isinstance(rule, RecordingRule) else alerts).add(rule.name)
        self._below = below
        self._recorded = _none_of(METRIC_NAME, recorded)
        self._alerts = _none_of(ALERT_NAME, alerts)

    def _without(self, matchers: Matchers) -> tuple[Matcher, ...]:
        names = {m.value for m in matchers if m.name == METRIC_NAME and m.op is MatchOp.EQUAL}
        if names & {ALERTS, FOR_STATE}:
            return (*matchers, *self._alerts)
        if names:
            return (*matchers, *self._recorded)
        # Which name a series has is open: without those of alerts, of whatever rules.
        own = _none_of(METRIC_NAME, {ALERTS, FOR_STATE}) if self._alerts else ()
        return (*matchers, *self._recorded, *own)

    def _all_without(self, matchers: Sequence[Matchers]) -> list[tuple[Matcher, ...]]:
        return [self._without(one) for one in matchers or [()]]

    def select(
        self, matchers: Matchers, start_ms: int, end_ms: int, hints: SelectHints
    ) -> Selection:
        return self._below.select(self._without(matchers), start_ms, end_ms, hints)

    def choose(
        self, matchers: Matchers, windows: WindowFunction, check: Check = never
    ) -> TierChoice | None:
        return self._below.choose(self._without(matchers), windows, check)

    def count(
        self, matchers: Matchers, start_ms: int, end_ms: int, check: Check = never
    ) -> tuple[int, int]:
        return self._below.count(self._without(matchers), start_ms, end_ms, check)

    def label_names(self, matchers: Sequence[Matchers], start_ms: int, end_ms: int) -> list[str]:
        return self._below.label_names(self._all_without(matchers), start_ms, end_ms)

    def label_values(
        self, name: str, matchers: Sequence[Matchers], start_ms: int, end_ms: int
    ) -> list[str]:
        return self._below.label_values(name, self._all_without(matchers), start_ms, end_ms)

    def series(self, matchers: Sequence[Matchers], start_ms: int, end_ms: int) -> LabelTable:
        return self._below.series(self._all_without(matchers), start_ms, end_ms)


def _none_of(label: str, names: set[str]) -> tuple[Matcher, ...]:
    if not names:
        return ()
    pattern = "|".join(sorted(map(re.escape, names)))
    return (Matcher(label, MatchOp.NOT_REGEX, pattern),)
