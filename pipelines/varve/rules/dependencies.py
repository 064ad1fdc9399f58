"""Which rules of a group see what others of it write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from varve.promql.labels.label_table import METRIC_NAME
from varve.promql.labels.postings import value_test
from varve.promql.syntax.ast import Matcher, MatchOp, VectorSelector
from varve.promql.syntax.tree import walk
from varve.rules.label_sets import ALERT_NAME, ALERTS, FOR_STATE
from varve.rules.rule_file import RecordingRule, Rule


@dataclass(frozen=True, slots=True)
class Reading:
    """What a rule may read: any series at all, or what its selectors select.

    names: of the metrics they ask for, None if some of them do not name one.
    """

    anything: bool
    selectors: tuple[VectorSelector, ...]
    names: frozenset[str] | None

    @classmethod
    def of(cls, rule: Rule) -> Reading:
        selectors = tuple(node for node in walk(rule.tree) if isinstance(node, VectorSelector))
        named = [_name_of(selector) for selector in selectors]
        names = frozenset(name for name in named if name is not None)
        return cls(_asks_in_templates(rule), selectors, None if None in named else names)

    def reads(self, other: Rule) -> bool:
        """Whether that may be a series that `other` writes."""
        if self.anything:
            return True
        if self.names is not None and self.names.isdisjoint(_written(other)):
            return False
        return any(_may_select(selector.matchers, other) for selector in self.selectors)


def levels(rules: Sequence[Rule]) -> list[list[int]]:
    """Places of the rules in steps: those of one step may be evaluated side by side.

    A rule comes in a later step than those before it whose series it may read, and not in an
    earlier one than those before it that read its own: these are to see what it wrote last time.
    """
    readings = [Reading.of(rule) for rule in rules]
    level = [0] * len(rules)
    for later, rule in enumerate(rules):
        for earlier in range(later):
            if readings[later].reads(rules[earlier]):
                level[later] = max(level[later], level[earlier] + 1)
            elif readings[earlier].reads(rule):
                level[later] = max(level[later], level[earlier])
    steps: list[list[int]] = [[] for _ in range(max(level, default=-1) + 1)]
    for place, step in enumerate(level):
        steps[step].append(place)
    return steps


def _name_of(selector: VectorSelector) -> str | None:
    """The one name that a selector asks for, if it does."""
    for matcher in selector.matchers:
        if matcher.name == METRIC_NAME and matcher.op is MatchOp.EQUAL:
            return matcher.value
    return None


def _written(rule: Rule) -> frozenset[str]:
    """The names of the series that a rule writes."""
    return frozenset([rule.name]) if isinstance(rule, RecordingRule) else _OF_ALERTS


_OF_ALERTS: Final = frozenset([ALERTS, FOR_STATE])


def _asks_in_templates(rule: Rule) -> bool:
    if isinstance(rule, RecordingRule):
        return False
    templates = [*rule.labels.values(), *rule.annotations.values()]
    return any("query" in template.text for template in templates if template.parsed is not None)


def _may_select(matchers: Sequence[Matcher], other: Rule) -> bool:
    names = [matcher for matcher in matchers if matcher.name == METRIC_NAME]
    if isinstance(other, RecordingRule):
        fixed = {METRIC_NAME: other.name} | {k: v for k, v in other.labels.items() if v}
        return all(_accepts(matcher, fixed) for matcher in matchers if matcher.name in fixed)
    tests = [value_test(matcher) for matcher in names]
    if not any(all(test(name) for test in tests) for name in (ALERTS, FOR_STATE)):
        return False
    fixed = {ALERT_NAME: other.name}
    return all(_accepts(matcher, fixed) for matcher in matchers if matcher.name in fixed)


def _accepts(matcher: Matcher, fixed: dict[str, str]) -> bool:
    if matcher.op is MatchOp.EQUAL:
        return matcher.value == fixed[matcher.name]
    return value_test(matcher)(fixed[matcher.name])
