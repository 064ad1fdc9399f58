"""Computes info(), which adds labels of info series, such as target_info, to those they describe.

Source: Prometheus, promql/info.go.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from varve.promql.errors import QueryError
from varve.promql.evaluation.context import Evaluation, Implementation
from varve.promql.evaluation.selection import at_ms, last_samples, select_windows
from varve.promql.evaluation.values import DUPLICATE_LABELS, Matrix, Steps
from varve.promql.interrupt import checked
from varve.promql.kernels.codes import TIMESTAMP
from varve.promql.labels.label_table import METRIC_NAME, Labels, LabelTable, format_labels
from varve.promql.labels.postings import value_test
from varve.promql.plan.durations import offset_ms
from varve.promql.plan.nodes import (
    FunctionCall,
    FusedAggregation,
    InstantSelect,
    Invariant,
    Node,
    RangeSelect,
    Selector,
    SubquerySelect,
)
from varve.promql.signatures import ValueType
from varve.promql.syntax.ast import At, Matcher, MatchOp, NumberLiteral

TARGET_INFO = "target_info"
IDENTIFYING = ("instance", "job")
"""Labels that tell which series an info series describes."""

_VECTORS = (ValueType.VECTOR, ValueType.MATRIX)


@dataclass(frozen=True, slots=True)
class _InfoMatchers:
    """What the second argument of info() asks for.

    names: the matchers on the names of info metrics. data: the matchers on each data label.
    """

    names: tuple[Matcher, ...]
    data: dict[str, list[Matcher]]

    @property
    def matchers(self) -> tuple[Matcher, ...]:
        return (*self.names, *(m for matchers in self.data.values() for m in matchers))

    def is_info(self, name: str) -> bool:
        """Whether a metric is itself one whose labels are asked for."""
        return all(value_test(matcher)(name) for matcher in self.names)

    def may_be_absent(self) -> bool:
        """Whether every wanted data label may be empty."""
        return all(value_test(m)("") for matchers in self.data.values() for m in matchers)


def _info(ev: Evaluation, node: FunctionCall, steps: Steps) -> Matrix:
    base = ev.matrix(node.args[0], steps)
    wanted = _wanted(node)
    labels = base.labels.labels(ev.check)
    names = base.labels.values_of(METRIC_NAME)
    info_names = {name for name in set(names) if wanted.is_info(name)}
    ignored = {row for row, name in enumerate(names) if name in info_names}
    info, stamps = _info_series(ev, node.args[0], wanted, steps, base, ignored)
    return _InfoJoin(ev, wanted, base, labels, ignored, info, stamps).run()


def _wanted(node: FunctionCall) -> _InfoMatchers:
    """Reads the second argument: without a name it means target_info.

    If it only excludes names, it means any other metric whose name ends in _info.
    """
    matchers: tuple[Matcher, ...] = ()
    if len(node.args) > 1:
        source = node.args[1]
        source = source.expr if isinstance(source, Invariant) else source
        matchers = source.selector.matchers if isinstance(source, InstantSelect) else ()
    data: dict[str, list[Matcher]] = {}
    for matcher in matchers:
        if matcher.name != METRIC_NAME:
            data.setdefault(matcher.name, []).append(matcher)
    names = tuple(matcher for matcher in matchers if matcher.name == METRIC_NAME)
    if not names:
        names = (Matcher(METRIC_NAME, MatchOp.EQUAL, TARGET_INFO),)
    elif all(matcher.op in (MatchOp.NOT_EQUAL, MatchOp.NOT_REGEX) for matcher in names):
        names = (Matcher(METRIC_NAME, MatchOp.REGEX, ".+_info"), *names)
    return _InfoMatchers(names, data)


def _info_series(
    ev: Evaluation,
    source: Node,
    wanted: _InfoMatchers,
    steps: Steps,
    base: Matrix,
    ignored: set[int],
) -> tuple[LabelTable, Matrix | None]:
    """The info series that may describe a base series; their values are their samples' times."""
    described = [row for row in range(base.series) if row not in ignored]
    known = {
        name: {base.labels.get(row, name) for row in checked(described, ev.check)} - {""}
        for name in IDENTIFYING
    }
    if not any(known.values()):
        return LabelTable.empty_sets(0), None
    node = InstantSelect(_info_selector(ev, source, wanted.matchers))
    selection, times = select_windows(
        ev, node.selector, steps, ev.lookback_ms, window_function="timestamp"
    )
    matrix = last_samples(ev, selection, times, node, TIMESTAMP)
    wanted_rows = np.array(
        [
            all(not known[n] or matrix.labels.get(row, n) in known[n] for n in IDENTIFYING)
            for row in checked(range(matrix.series), ev.check)
        ],
        dtype=np.bool_,
    )
    matrix = matrix.select(wanted_rows & matrix.present.any(axis=1))
    if matrix.histogram_mask().any():
        row = int(np.flatnonzero(matrix.histogram_mask().any(axis=1))[0])
        labels = format_labels(matrix.labels.labels()[row])
        raise QueryError(f"this should be an info metric, with float samples: {labels}")
    return matrix.labels, matrix


def _info_selector(ev: Evaluation, source: Node, matchers: tuple[Matcher, ...]) -> Selector:
    """A selector of the info series as of the time that the described series are taken from.

    That is the one time of all selectors in `source`. If they have different ones, or if a part of
    it has no selector, as vector(1) has not, the info series of the step itself are meant.
    """
    found = set(_references(ev, source, ()))
    reference = found.pop() if len(found) == 1 else None
    if reference is None:
        return Selector(matchers)
    pinned_ms, offset = reference
    at = None if pinned_ms is None else At(pinned_ms)
    return Selector(
        matchers, NumberLiteral(offset / 1000, is_duration=True) if offset else None, at
    )


_Reference = tuple[int | None, int]
"""Where a selector looks to: the time of @ less all offsets, or None and its offset in ms."""


def _references(
    ev: Evaluation, node: Node, subqueries: tuple[SubquerySelect, ...]
) -> Iterator[_Reference | None]:
    """The references of the vectors that `node` is made of; None for one without a selector.

    subqueries: those around `node`, outermost first. Their offsets add up, until a time of @ makes
    what is further out irrelevant.
    """
    if isinstance(node, FusedAggregation | Invariant):
        inner = node.source if isinstance(node, FusedAggregation) else node.expr
        yield from _references(ev, inner, subqueries)
    elif isinstance(node, InstantSelect | RangeSelect):
        yield _reference(ev, node.selector, subqueries)
    else:
        children = node.children()
        if isinstance(node, FunctionCall) and node.func == "info":
            children = children[:1]
        if isinstance(node, SubquerySelect):
            subqueries = (*subqueries, node)
        vectors = [child for child in children if child.type in _VECTORS]
        if not vectors:
            yield None
        for child in vectors:
            yield from _references(ev, child, subqueries)


def _reference(
    ev: Evaluation, selector: Selector, subqueries: tuple[SubquerySelect, ...]
) -> _Reference:
    at, offset = selector.at, offset_ms(selector.offset, ev.query)
    for subquery in reversed(subqueries):
        if at is not None:
            break
        at = subquery.at
        offset += offset_ms(subquery.offset, ev.query)
    return (None, offset) if at is None else (at_ms(ev, at) - offset, 0)


class _InfoJoin:
    """Joins base and info series step by step, as either may come and go."""

    def __init__(
        self,
        ev: Evaluation,
        wanted: _InfoMatchers,
        base: Matrix,
        labels: list[Labels],
        ignored: set[int],
        info_labels: LabelTable,
        info: Matrix | None,
    ) -> None:
        self.check = ev.check
        self.wanted = wanted
        self.base = base
        self.labels = labels
        self.ignored = ignored
        self.info = info
        self.info_labels = info_labels.labels(ev.check)
        self.rows: dict[tuple[Labels, bool], int] = {}
        self.cells: list[tuple[int, int, int]] = []

    def run(self) -> Matrix:
        for step in range(self.base.steps):
            current = self._current(step)
            rows = np.flatnonzero(self.base.present[:, step]).tolist()
            for row in checked(rows, self.check):
                labels = self._enriched(row, current)
                if labels is not None:
                    key = labels, bool(self.base.drop_name[row])
                    target = self.rows.setdefault(key, len(self.rows))
                    self.cells.append((target, row, step))
        return self._matrix()

    def _current(self, step: int) -> dict[tuple[str, ...], list[Labels]]:
        """The newest info series of each name with a sample at the step, by identifying labels."""
        if self.info is None:
            return {}
        newest: dict[tuple[str, ...], tuple[float, Labels]] = {}
        for row in checked(np.flatnonzero(self.info.present[:, step]).tolist(), self.check):
            labels = self.info_labels[row]
            found = dict(labels)
            key = (found.get(METRIC_NAME, ""), *(found.get(name, "") for name in IDENTIFYING))
            stamp = float(self.info.values[row, step])
            known = newest.get(key)
            if known is not None and known[0] == stamp:
                at = round(stamp * 1000)
                raise QueryError(
                    "found duplicate series for info metric:"
                    f" existing {format_labels(known[1])} @ {at},"
                    f" new {format_labels(labels)} @ {at}"
                )
            if known is None or known[0] < stamp:
                newest[key] = stamp, labels
        current: dict[tuple[str, ...], list[Labels]] = {}
        for (_, *identity), (_, labels) in checked(newest.items(), self.check):
            current.setdefault(tuple(identity), []).append(labels)
        return current

    def _enriched(self, row: int, current: dict[tuple[str, ...], list[Labels]]) -> Labels | None:
        """The base series' labels and those that are added; None if the series is left out."""
        base = dict(self.labels[row])
        if row in self.ignored:
            return self.labels[row]
        described_by = current.get(tuple(base.get(name, "") for name in IDENTIFYING), [])
        added: dict[str, str] = {}
        for labels in described_by:
            for name, value in labels:
                if name == METRIC_NAME or (self.wanted.data and name not in self.wanted.data):
                    continue
                if added.get(name, value) != value:
                    raise QueryError(f"conflicting label: {name}")
                if name not in base:
                    added[name] = value
        if not described_by and not self.wanted.may_be_absent():
            return None
        return tuple(sorted((base | added).items()))

    def _matrix(self) -> Matrix:
        shape = (len(self.rows), self.base.steps)
        values, present = np.zeros(shape), np.zeros(shape, dtype=np.bool_)
        histograms = None
        if self.base.histograms is not None:
            histograms = np.full(shape, None, dtype=object)
        for target, row, step in checked(self.cells, self.check):
            if present[target, step]:
                raise QueryError(DUPLICATE_LABELS)
            present[target, step] = True
            values[target, step] = self.base.values[row, step]
            if histograms is not None and self.base.histograms is not None:
                histograms[target, step] = self.base.histograms[row, step]
        rows = [dict(labels) for labels, _ in checked(self.rows, self.check)]
        labels = LabelTable.of(rows, self.check)
        drop_name = np.array([drop for _, drop in self.rows], dtype=np.bool_)
        return Matrix(labels, values, present, drop_name, histograms)


IMPLEMENTATIONS: Final[Mapping[str, Implementation]] = {"info": _info}
