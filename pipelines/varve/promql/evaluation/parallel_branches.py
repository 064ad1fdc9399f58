"""Evaluates parts of a query that do not depend on each other side by side, on idle cores.

Kernels hold no interpreter lock, so two of them really run at once. Only parts worth a thread are
moved, and only those that share nothing with the others. What a query gives does not depend on
it: its values, the order of its annotations, its limits and which error it ends with are those of
an evaluation in order.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import cast

from varve.promql.errors import QueryError
from varve.promql.evaluation.context import Evaluation, Key
from varve.promql.evaluation.selection import expected, subquery_steps, tiered
from varve.promql.evaluation.values import Steps, Value
from varve.promql.plan import nodes
from varve.promql.plan.durations import length_ms
from varve.promql.plan.nodes import Node, Selector


@contextmanager
def in_parallel(ev: Evaluation, parts: Sequence[Node], steps: Steps) -> Iterator[None]:
    """While the context is open, other threads may evaluate `parts` before ev.eval asks."""
    branches = None
    if ev.workers is not None and ev.workers.any_idle():
        moved = _worth_moving(ev, parts, steps, ev.workers.worthwhile)
        branches = _Branches(ev, moved, steps)
        if ev.workers.lend(branches.run, len(moved)):
            ev.futures |= branches.by_key()
    try:
        yield
    finally:
        if branches is not None:
            branches.abandon(ev)


def _worth_moving(ev: Evaluation, parts: Sequence[Node], steps: Steps, least: int) -> list[Node]:
    """The parts for other threads. The first that is worth one stays with the caller."""
    reading = [part for part in parts if _reads_samples(part)]
    if len(reading) < 2:
        return []
    costly = [part for part in reading if _cost(ev, part, steps) >= least]
    if len(costly) < 2:
        return []
    uses = Counter(key for part in reading for key in _shared_under(ev, part))
    return [part for part in costly[1:] if all(uses[key] == 1 for key in _shared_under(ev, part))]


class _Branch:
    """A part of a query, evaluated by whoever begins it first."""

    def __init__(self, ev: Evaluation, node: Node, steps: Steps) -> None:
        self.ev = ev
        self._node = node
        self._steps = steps
        self._begun = threading.Lock()
        self._done = threading.Event()
        self._value: Value | None = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Evaluates the part, unless a thread has begun to."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self._value = self.ev.eval(self._node, self._steps)
        except BaseException as error:  # noqa: BLE001 - raised where the value is asked for
            self._error = error
        self._done.set()

    @property
    def is_done(self) -> bool:
        return self._done.is_set()

    def value(self) -> Value:
        """Waits for the value. Raises what evaluating it raised."""
        self._done.wait()
        if self._error is not None:
            raise self._error
        return cast(Value, self._value)


class _Branches:
    """The parts that may run on other threads, in the order in which they will be asked for."""

    def __init__(self, ev: Evaluation, parts: Sequence[Node], steps: Steps) -> None:
        self._ev = ev
        self._branches: dict[Key, _Branch] = {
            (id(part), steps): _Branch(ev.branch(), part, steps) for part in parts
        }

    def by_key(self) -> dict[Key, partial[Value]]:
        return {key: partial(self._take, key) for key in self._branches}

    def run(self) -> None:
        """Evaluates the parts that nobody has begun, one after the other."""
        for branch in list(self._branches.values()):
            branch.run()

    def abandon(self, ev: Evaluation) -> None:
        """Stops the parts that nobody has asked for."""
        for key, branch in self._branches.items():
            branch.ev.budget.abandon()
            ev.futures.pop(key, None)

    def _take(self, key: Key) -> Value:
        """Returns a value and adds what it took to this evaluation.

        While another thread evaluates it, this one goes on with the parts after it. So a part that
        is waited for has always begun, and no two threads can wait for each other.
        """
        branch = self._branches.pop(key)
        branch.run()
        for later in list(self._branches.values()):
            if branch.is_done:
                break
            later.run()
        value = branch.value()
        self._ev.join(branch.ev)
        return value


def _reads_samples(part: Node) -> bool:
    """Whether a part reads any samples."""
    return any(
        isinstance(node, nodes.InstantSelect | nodes.RangeSelect) for node in nodes.walk(part)
    )


def _shared_under(ev: Evaluation, part: Node) -> frozenset[int]:
    """Nodes that read samples and are used more than once in the query."""
    return frozenset(
        id(node) for node in nodes.walk(part) if id(node) in ev.shared and _reads_samples(node)
    )


def _cost(ev: Evaluation, part: Node, steps: Steps) -> int:
    """About how many samples a part reads and how many values it makes of them."""
    total = 0
    stack = [(part, steps)]
    try:
        while stack:
            node, at = stack.pop()
            if isinstance(node, nodes.FusedAggregation):
                node = node.source
            if isinstance(node, nodes.InstantSelect):
                total += _selection_cost(ev, node.selector, at, ev.lookback_ms, "")
            elif isinstance(node, nodes.RangeCall) and isinstance(node.source, nodes.RangeSelect):
                source = node.source
                range_ms = length_ms(source.range, ev.query)
                total += _selection_cost(ev, source.selector, at, range_ms, node.name)
                stack += [(child, at) for child in node.parameters]
            elif isinstance(node, nodes.RangeSelect):
                range_ms = length_ms(node.range, ev.query)
                total += _selection_cost(ev, node.selector, at, range_ms, None)
            elif isinstance(node, nodes.SubquerySelect):
                stack.append((node.expr, subquery_steps(ev, node, at)))
            elif isinstance(node, nodes.Invariant):
                stack.append((node.expr, Steps(at.start, at.step, 1)))
            else:
                stack += [(child, at) for child in node.children()]
    except QueryError:
        return 0  # evaluating the part will raise it
    return total


def _selection_cost(
    ev: Evaluation, selector: Selector, steps: Steps, range_ms: int, function: str | None
) -> int:
    _, series, samples = expected(ev, selector, steps, range_ms, tiered(selector, function))
    return samples + series * steps.count
