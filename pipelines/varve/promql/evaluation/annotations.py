"""Warnings and infos of a query, each of them once, with the position of what caused it.

Source: Prometheus, util/annotations/annotations.go.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from varve.promql.syntax.ast import Span
from varve.promql.syntax.go_numbers import format_g, rfc3339
from varve.promql.syntax.literals import quote

Operation = Literal["addition", "subtraction", "aggregation"]
Level = Literal["warning", "info"]

_MONOTONICITY = (
    "input to histogram_quantile needed to be fixed for monotonicity (see"
    " https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile)"
)


@dataclass(frozen=True, slots=True)
class Annotation:
    """A note on the result. Two with the same level and text are equal."""

    level: Level
    text: str
    span: Span = field(compare=False)


@dataclass(slots=True)
class Monotonicity:
    """What had to be fixed of one classic histogram's buckets, over all steps."""

    span: Span
    from_ms: int
    to_ms: int
    least_bound: float
    greatest_bound: float
    largest_fall: float
    samples: int = 1

    def merge(self, other: Monotonicity) -> None:
        self.from_ms = min(self.from_ms, other.from_ms)
        self.to_ms = max(self.to_ms, other.to_ms)
        self.least_bound = min(self.least_bound, other.least_bound)
        self.greatest_bound = max(self.greatest_bound, other.greatest_bound)
        self.largest_fall = max(self.largest_fall, other.largest_fall)
        self.samples += other.samples

    def __str__(self) -> str:
        return (
            f", from buckets {format_g(self.least_bound)} to {format_g(self.greatest_bound)},"
            f" with a max diff of {format_g(self.largest_fall, 2)}, over {self.samples} samples"
            f" from {rfc3339(self.from_ms)} to {rfc3339(self.to_ms)}"
        )


class Annotations:
    """Collects the notes of a running query. Equal ones keep the first one's position."""

    def __init__(self) -> None:
        self._notes: dict[Annotation, Span] = {}
        self._monotonicity: dict[str, Monotonicity] = {}
        self._plain: dict[str, None] = {}

    def add_plain(self, text: str) -> None:
        """Adds a warning of the storage, which has no position in the query."""
        self._plain.setdefault(text)

    def add(self, annotation: Annotation) -> None:
        self._notes.setdefault(annotation, annotation.span)

    def add_monotonicity(self, metric: str, fix: Monotonicity) -> None:
        known = self._monotonicity.get(metric)
        if known is None:
            self._monotonicity[metric] = fix
        else:
            known.merge(fix)

    def merge(self, other: Annotations) -> None:
        self._plain |= other._plain
        for annotation in other._notes:
            self.add(annotation)
        for metric, fix in other._monotonicity.items():
            self.add_monotonicity(metric, fix)

    def __bool__(self) -> bool:
        return bool(self._notes or self._monotonicity or self._plain)

    def rendered(self, query: str, level: Level) -> list[str]:
        """Every note of a level as `PromQL warning: text (line:column)`, as they came."""
        found = [(note.text, span) for note, span in self._notes.items() if note.level == level]
        if level == "info":
            found += [
                (_of_metric(_MONOTONICITY, metric) + str(fix), fix.span)
                for metric, fix in self._monotonicity.items()
            ]
        plain = list(self._plain) if level == "warning" else []
        return plain + [f"PromQL {level}: {text} ({position(query, span)})" for text, span in found]


def position(query: str, span: Span) -> str:
    """A span's start as `line:column`. Both count from 1, and columns count bytes."""
    head = query.encode("utf-8", "surrogateescape")[: span.start]
    line_start = head.rfind(b"\n") + 1
    line = head.count(b"\n") + 1
    return f"{line}:{len(head) - line_start + 1}"


def invalid_quantile(q: float, span: Span) -> Annotation:
    text = f"quantile value should be between 0 and 1, got {format_g(q)}"
    return Annotation("warning", text, span)


def invalid_ratio(ratio: float, capped_to: float, span: Span) -> Annotation:
    text = "ratio value should be between -1 and 1, got "
    text += f"{format_g(ratio)}, capping to {format_g(capped_to)}"
    return Annotation("warning", text, span)


def bad_bucket_label(metric: str, value: str, span: Span) -> Annotation:
    text = f'bucket label "le" is missing or has a malformed value of {quote(value)}'
    return Annotation("warning", _of_metric(text, metric), span)


def mixed_floats_histograms(metric: str, span: Span) -> Annotation:
    text = f"encountered a mix of histograms and floats for metric name {quote(metric)}"
    return Annotation("warning", text, span)


def mixed_floats_histograms_aggregation(span: Span) -> Annotation:
    text = "encountered a mix of histograms and floats for aggregation"
    return Annotation("warning", text, span)


def mixed_classic_native(metric: str, span: Span) -> Annotation:
    text = "vector contains a mix of classic and native histograms"
    return Annotation("warning", _of_metric(text, metric), span)


def not_counter(metric: str, span: Span) -> Annotation:
    text = f"this native histogram metric is not a counter: {quote(metric)}"
    return Annotation("warning", text, span)


def not_gauge(metric: str, span: Span) -> Annotation:
    text = f"this native histogram metric is not a gauge: {quote(metric)}"
    return Annotation("warning", text, span)


def mixed_exponential_custom(metric: str, span: Span) -> Annotation:
    text = "vector contains a mix of histograms with exponential and custom buckets schemas"
    return Annotation("warning", f"{text} for metric name {quote(metric)}", span)


def incompatible_buckets(operator: str, span: Span) -> Annotation:
    text = f"incompatible bucket layout encountered for binary operator {operator}"
    return Annotation("warning", text, span)


def hints_collide(operation: Operation, span: Span) -> Annotation:
    return Annotation("warning", f"conflicting counter resets during histogram {operation}", span)


def start_times_overlap(metric: str, span: Span) -> Annotation:
    text = "sample has start time that overlaps with previous sample timestamp"
    return Annotation("warning", f"{text} for metric {quote(metric)}", span)


def sort_in_range_query(span: Span) -> Annotation:
    text = "sort is ineffective for range queries since results are always ordered by labels"
    return Annotation("warning", text, span)


def possible_non_counter(metric: str, span: Span) -> Annotation:
    text = "metric might not be a counter, name does not end in _total/_sum/_count/_bucket:"
    return Annotation("info", f"{text} {quote(metric)}", span)


def possible_non_counter_label(metric: str, type_label: str, span: Span) -> Annotation:
    text = 'metric might not be a counter, __type__ label is not set to "counter" or "histogram"'
    return Annotation("info", f"{text}, got {quote(type_label)}: {quote(metric)}", span)


def incompatible_types(left: str, operator: str, right: str, span: Span) -> Annotation:
    text = "incompatible sample types encountered for binary operator"
    return Annotation("info", f"{text} {quote(operator)}: {left} {operator} {right}", span)


def histogram_ignored(aggregation: str, span: Span) -> Annotation:
    return Annotation("info", f"ignored histogram in {aggregation} aggregation", span)


def histograms_ignored_in_range(metric: str, span: Span) -> Annotation:
    text = "ignored histograms in a range containing both floats and histograms"
    return Annotation("info", f"{text} for metric name {quote(metric)}", span)


def quantile_of_nans(note: str, metric: str, span: Span) -> Annotation:
    text = f"input to histogram_quantile has NaN observations, {note}"
    return Annotation("info", _of_metric(text, metric), span)


def fraction_of_nans(metric: str, span: Span) -> Annotation:
    text = "input to histogram_fraction has NaN observations, which are excluded from all fractions"
    return Annotation("info", _of_metric(text, metric), span)


def bounds_reconciled(operation: Operation, span: Span) -> Annotation:
    text = f"mismatched custom buckets were reconciled during {operation}"
    return Annotation("info", text, span)


def _of_metric(text: str, metric: str) -> str:
    return f"{text} for metric name {quote(metric)}" if metric else text
