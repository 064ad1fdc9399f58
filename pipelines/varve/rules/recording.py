"""The series of a recording rule. Source: Prometheus, rules/recording.go."""

from __future__ import annotations

from collections.abc import Sequence

from varve.promql.labels.label_table import METRIC_NAME
from varve.rules.errors import RuleError
from varve.rules.instant import Element, Sample
from varve.rules.label_sets import labels_of
from varve.rules.rule_file import RecordingRule


def record(
    rule: RecordingRule, vector: Sequence[Element], *, ts_ms: int, limit: int
) -> tuple[Sample, ...]:
    """The samples of `vector` under the rule's name and labels. Raises RuleError."""
    samples = []
    for element in vector:
        labels = {**dict(element.labels), METRIC_NAME: rule.name, **rule.labels}
        samples.append(Sample(labels_of(labels), ts_ms, element.value))
    if len({sample.labels for sample in samples}) < len(samples):
        raise RuleError("vector contains metrics with the same labelset after applying rule labels")
    if 0 < limit < len(samples):
        raise RuleError(f"exceeded limit of {limit} with {len(samples)} series")
    return tuple(samples)
