"""What is answered in place of a query that takes too much: an estimate, else steps kept before.

Only for who asks for it: a rule, or a panel that somebody decides by, gets an error instead.
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import replace
from typing import Final

import numpy as np

from varve.promql.errors import LimitError, QueryError, QueryTimeoutError
from varve.promql.evaluation.values import Float64s, Matrix, QueryResult
from varve.promql.syntax.parser import parse
from varve.promql.syntax.printer import to_text
from varve.query import step_cache
from varve.query.derived_storage import derived_metric
from varve.query.evaluation import Answer, Options, Range, Times, engine_of, evaluate
from varve.query.provenance import Sampled
from varve.query.sampling import CONFIDENCE, Estimate, Sample, estimable, estimate
from varve.query.view import View

_EXACT: Final = 0.6
_ESTIMATE: Final = 0.75
"""Shares of the time until the deadline: for the answer itself; of the rest for an estimate."""
# Values, their distances from means, where there are any: some copies of each.
_BYTES_A_VALUE: Final = 50

log = logging.getLogger(__name__)


def evaluate_or_estimate(view: View, expression: str, times: Times, options: Options) -> Answer:
    """Evaluates as `evaluate` does; where that meets its deadline or a limit, estimates.

    Sums, counts and averages over the series of one selector are estimated from a sample of these,
    with bounds; of others, and if that takes too long as well, the steps are given that were
    computed for an earlier answer, if any were. Warnings and provenance say which. Raises what
    `evaluate` raised if there is neither.
    """
    taken = options.memory.nbytes
    try:
        return evaluate(view, expression, times, _within(options, _EXACT))
    except (LimitError, QueryTimeoutError) as err:
        too_much = err
    _begin_again(options, taken)
    try:
        found = _estimated(view, expression, times, _within(options, _ESTIMATE))
    except QueryError as err:
        log.debug("no estimate either: %s", err)
        _begin_again(options, taken)
        found = None
    if found is None:
        found = _kept(view, expression, times, options, too_much)
    if found is None:
        raise too_much
    return found


def _begin_again(options: Options, taken: int) -> None:
    """Gives back what an attempt that failed has taken of memory. Raises if the query is over."""
    options.memory.give_back(options.memory.nbytes - taken)
    options.check_running()


def _within(options: Options, share: float) -> Options:
    """The options with a share of the time that is left."""
    now_s = time.monotonic()
    left_s = min(options.deadline_s - now_s, options.limits.timeout_s or math.inf)
    return replace(options, deadline_s=now_s + share * left_s) if left_s < math.inf else options


def _estimated(view: View, expression: str, times: Times, options: Options) -> Answer | None:
    """An estimate; None for what has none."""
    query = estimable(parse(expression))
    if query is None or derived_metric(query.selector.matchers) is not None:
        return None
    sample = Sample(query)
    running, reader = engine_of(view, replace(options, workers=None), sample)
    inner = to_text(query.inner)
    if isinstance(times, Range):
        found = running.range(
            inner, times.start_ms, times.end_ms, times.step_ms, cancelled=options.cancelled
        )
    else:
        found = running.instant(inner, times, cancelled=options.cancelled)
    if not isinstance(found.value, Matrix) or found.value.histograms is not None:
        return None
    options.memory.take(_BYTES_A_VALUE * found.value.values.size)
    estimated = estimate(sample, found.value)
    drawn, size = int(sample.drawn.sum()), int(sample.sizes.sum())
    if drawn == size:
        return Answer(_answer(found, estimated.matrix), reader.provenance)
    result = _answer(found, estimated.matrix)
    result.warnings.append(
        f"sampled: {drawn:,} of {size:,} series were read; values are estimates, each within its"
        f" bound in provenance.sampled with {CONFIDENCE:.0%} confidence"
    )
    sampled = Sampled(drawn, size, CONFIDENCE, _bounds(result, estimated))
    return Answer(result, replace(reader.provenance, sampled=sampled))


def _answer(found: QueryResult, matrix: Matrix) -> QueryResult:
    order = matrix.labels.sort_order(found.check)
    return replace(found, value=matrix, order=order[matrix.has_samples()[order]])


def _bounds(result: QueryResult, estimated: Estimate) -> list[tuple[dict[str, str], Float64s]]:
    """Of each series of the answer, in its order, its labels and the bounds of its points."""
    labels = [dict(one) for one in estimated.matrix.labels.labels()]
    present = estimated.matrix.present
    return [(labels[row], estimated.bounds[row][present[row]]) for row in result.order.tolist()]


def _kept(
    view: View, expression: str, times: Times, options: Options, why: QueryError
) -> Answer | None:
    """The steps that were computed for an earlier answer, whatever has come since."""
    if options.steps is None or not isinstance(times, Range) or times.step_ms <= 0:
        return None
    kept = options.steps.get(
        step_cache.key_of(view.table, expression, times, options.lookback_ms, options.tier)
    )
    if kept is None or not kept.is_of_or_before(view.provenance.versions):
        return None
    steps = step_cache.between(kept, times.start_ms, times.end_ms)
    if not len(steps.times):
        return None
    wanted = len(np.arange(times.start_ms, times.end_ms + 1, times.step_ms))
    result = step_cache.result_of(steps, step_cache.NO_STATS, options.check_running)
    of_version = steps.versions["samples"]
    result.warnings.append(
        f"partial: {len(steps.times):,} of {wanted:,} steps, computed for an earlier answer, as of"
        f" version {of_version} of samples; no others, since: {why}"
    )
    provenance = replace(view.provenance, cached=len(steps.times), is_cut=True)
    return Answer(result, provenance)
