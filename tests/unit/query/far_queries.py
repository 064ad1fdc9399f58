"""Executors in this process: what Spark's get is pickled, what they send back is Arrow."""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import pyarrow as pa

from tests.unit.query.tier_queries import FUNCTION_NAMES, Question, question
from varve.promql import result_json
from varve.promql.errors import QueryError
from varve.promql.interrupt import Check
from varve.query import leaf_job
from varve.query.evaluation import Options, evaluate
from varve.query.executors import Executors
from varve.query.leaf_job import LeafJob, Outcome, outcome_of
from varve.query.provenance import Provenance
from varve.query.view import View
from varve.storage.store import Store

SHAPES = (
    "{0}",
    "sum({0})",
    "avg({0})",
    "stddev by (i) ({0})",
    "max({0})",
    "count by (i) ({0})",
    "topk(2, {0})",
    "quantile(0.3, {0})",
    "sum({0}) / on () group_right {0}",
    "avg({0}) > bool 3 or min({0})",
)


@dataclass
class InProcess:
    """Implements query.executors.Executors. jobs: how many there were."""

    store: Store
    least_rows: int = -1
    rows_a_task: int = 500
    jobs: int = 0
    tasks: int = 0

    def run(self, job: LeafJob, check: Check) -> Iterator[Outcome]:
        self.jobs += 1
        self.tasks += job.size
        sent = pickle.loads(pickle.dumps(job))
        for number in range(job.size):
            check()
            for batch in leaf_job.run(sent, iter([pa.record_batch({"id": [number]})])):
                for row in batch.to_pylist():
                    yield outcome_of(row, job.leaf.steps)


def far_question(rng: Random, number: int, tier: str | None, stage: str) -> tuple[Question, str]:
    """A question, and an expression around its leaf."""
    asked = question(rng, FUNCTION_NAMES[number % len(FUNCTION_NAMES)], tier, stage)
    return asked, SHAPES[rng.randrange(len(SHAPES))].format(asked.text)


def answered(
    view: View, asked: Question, expression: str, executors: Executors | None
) -> tuple[object, Provenance | None]:
    """All of an answer that must not depend on where it was computed, or the error."""
    options = Options(tier=asked.tier, lookback_ms=asked.lookback_ms, executors=executors)
    try:
        answer = evaluate(view, expression, asked.times, options)
    except QueryError as err:
        return (type(err), str(err)), None
    found = answer.result
    body = result_json.to_json(found)
    return (body, found.warnings, found.infos, found.stats.samples_touched), answer.provenance


def check_far(view: View, asked: Question, expression: str, executors: Executors) -> None:
    """Raises AssertionError unless both are the same."""
    near, _ = answered(view, asked, expression, None)
    far, provenance = answered(view, asked, expression, executors)
    assert near == far
    assert provenance is None or all(use.by_spark for use in provenance.selectors)
