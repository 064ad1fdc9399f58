"""Computes the leaves of a plan: functions of windows, by series or added up in groups at once.

Whoever has the samples can do it, with nothing else of the query.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from varve.promql.evaluation.kernel_blocks import Work, run_in_blocks
from varve.promql.evaluation.limits import Budget
from varve.promql.evaluation.rollup_rows import clear, fill_from_rollups, rollup_values
from varve.promql.evaluation.values import Bools, Float64s, Int64s
from varve.promql.interrupt import Check
from varve.promql.kernels.aggregate import (
    GroupState,
    aggregate_matrix,
    aggregate_rows,
    finish_groups,
)
from varve.promql.kernels.windows import evaluate_rows
from varve.promql.storage import Leaf, LeafValues, Rollups, SampleBlock, Samples


def work_of(leaf: Leaf, samples: Samples) -> Work:
    """How much there is to do for some samples."""
    span_ms = int(leaf.times[-1] - leaf.times[0]) if leaf.steps else 0
    return Work(samples, leaf.range_ms, span_ms, leaf.steps)


def by_series(budget: Budget, leaf: Leaf, samples: Samples, rollups: Rollups | None) -> LeafValues:
    """The values of each series, of its samples or else of the rows that stand in for them."""
    shape = (samples.series, leaf.steps)
    values, present = np.empty(shape), np.empty(shape, dtype=np.bool_)

    def kernel(some: SampleBlock, part: slice, values: Float64s, present: Bools) -> int:
        return evaluate_rows(
            leaf.function,
            some.ts,
            some.values,
            some.begins,
            some.ends,
            some.has_stale,
            leaf.times[part],
            leaf.eval_times[part],
            leaf.range_ms,
            leaf.parameters[0][part],
            leaf.parameters[1][part],
            values,
            present,
        )

    touched = 0
    if rollups is not None and not len(samples.ts):
        clear(values, present)
    else:
        touched = run_in_blocks(budget, work_of(leaf, samples), values, present, kernel)
        budget.samples_touched += touched
    if rollups is not None:
        touched += fill_from_rollups(
            budget, leaf.function, rollups, leaf.parameters[0], values, present
        )
    return LeafValues(values, present, touched)


@dataclass(frozen=True, slots=True)
class GroupedLeaf:
    """A leaf, and an aggregation (kernels.codes) of its values: series i is in groups[i], one of
    `size`.
    """

    leaf: Leaf
    kernel: int
    groups: Int64s
    size: int

    def of_samples(
        self, samples: Samples, steps: slice, check: Check, *, alone: bool
    ) -> LeafValues:
        """The values of groups at some steps. Steps do not depend on each other, so that it does
        not matter which are computed at once. alone: no others are computed of these samples.
        """
        leaf = self.leaf.at(steps)
        if not alone:
            samples = samples.within(*leaf.span)
        work = work_of(leaf, samples)
        touched, parts = 0, []
        for block in work.step_blocks():
            part = leaf.at(block)
            state = GroupState.empty(self.kernel, self.size, part.steps)
            for rows in work.row_blocks(block):
                check()
                for some in samples.blocks(rows):
                    touched += aggregate_rows(
                        self.kernel,
                        part.function,
                        some.ts,
                        some.values,
                        some.begins,
                        some.ends,
                        some.has_stale,
                        part.times,
                        part.eval_times,
                        part.range_ms,
                        part.parameters[0],
                        part.parameters[1],
                        self.groups[some.rows],
                        *state,
                    )
            parts.append(finished(self.kernel, state, 0))
        return joined(parts, touched)

    def of_rollups(self, budget: Budget, rollups: Rollups) -> LeafValues:
        """The values of groups from rows of rollups, block by block."""
        leaf, state = self.leaf, GroupState.empty(self.kernel, self.size, self.leaf.steps)
        touched = 0
        for block in rollup_values(budget, leaf.function, rollups, leaf.parameters[0], leaf.steps):
            ids = self.groups[block.series]
            aggregate_matrix(self.kernel, block.values, block.present, ids, *state)
            touched += block.touched
        return finished(self.kernel, state, touched)


def finished(kernel: int, state: GroupState, touched: int) -> LeafValues:
    """The results that the state of groups comes to."""
    present = np.empty(state.total.shape, dtype=np.bool_)
    finish_groups(kernel, *state, present)
    return LeafValues(state.total, present, touched)


def joined(parts: Sequence[LeafValues], touched: int) -> LeafValues:
    """The values of steps that follow one another."""
    if len(parts) == 1:
        return LeafValues(parts[0].values, parts[0].present, touched)
    return LeafValues(
        np.concatenate([part.values for part in parts], axis=1),
        np.concatenate([part.present for part in parts], axis=1),
        touched,
    )
