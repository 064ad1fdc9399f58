"""What a round of rules costs: 1,000 rules in 50 groups over 10,000 series in memory.

    make bench-rules ARGS="--rounds 20"

Prints CPU seconds of each round after the first, which also plans the queries.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Iterable

import numpy as np

from varve.promql.kernels import warm_up
from varve.promql.labels.label_table import LabelTable
from varve.promql.testing import MemoryStorage
from varve.rules.group_run import Evaluator, GroupRun
from varve.rules.instant import Sample
from varve.rules.overlay import Overlay
from varve.rules.rule_file import parse_rule_file
from varve.rules.series_buffer import SeriesBuffer

METRICS, SERIES_A_METRIC, SAMPLES, STEP_MS = 100, 100, 40, 15_000
RULES_A_GROUP = 20
EXPRESSIONS = {
    "record": [
        "sum by (job) (rate({m}[5m]))",
        "avg by (job) ({m})",
        "max({m})",
        "histogram_quantile(0.9, sum by (le, job) (rate({m}[5m])))",
        "count by (job) ({m} > 10)",
        "sum by (job) (rate({m}[5m])) / sum by (job) (rate(metric_0[5m]))",
        "topk(3, {m})",
    ],
    "alert": ["{m} > 1e12", "rate({m}[5m]) > 1e9", "absent({m})"],
}


class Series:
    """The series of producers, and over them what rules wrote."""

    def __init__(self) -> None:
        self._written = SeriesBuffer()
        self.storage = Overlay(stored(), self._written)

    def write(self, samples: Iterable[Sample]) -> None:
        self._written.write(samples)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=10)
    args = parser.parse_args()
    warm_up()
    runs = [GroupRun(group) for group in parse_rule_file(rules(METRICS), "bench.yml")]
    evaluator, series, took = Evaluator(), Series(), []
    for number in range(args.rounds + 1):
        before, at_ms = time.process_time(), SAMPLES * STEP_MS + number * STEP_MS
        written = sum(len(run.evaluate(series, evaluator, at_ms).samples) for run in runs)
        took.append(time.process_time() - before)
    failed = sum(bool(rule.error) for run in runs for rule in run.rules)
    count = sum(len(run.rules) for run in runs)
    print(f"{count} rules over {METRICS * SERIES_A_METRIC} series, {failed} failed")
    print(f"first round: {took[0]:.2f} CPU s, with plans")
    print(f"a round: median {statistics.median(took[1:]):.2f} CPU s, {written} samples written")
    return 1 if failed else 0


def rules(metrics: int) -> str:
    """A file of rules, ten for each of metric_0, metric_1 …"""
    kinds = [(kind, expr) for kind, exprs in EXPRESSIONS.items() for expr in exprs]
    lines = ["groups:"]
    for number in range(metrics * len(kinds)):
        if number % RULES_A_GROUP == 0:
            lines += [f"- name: g{number}", "  rules:"]
        kind, expr = kinds[number // metrics]
        shown = expr.format(m=f"metric_{number % metrics}")
        lines += [f"  - {kind}: {kind}_{number}", f'    expr: "{shown}"']
    return "\n".join(lines)


def stored() -> MemoryStorage:
    table = LabelTable.of(
        [
            {"__name__": f"metric_{m}", "instance": f"host-{s}", "job": f"job-{s % 10}"}
            for m in range(METRICS)
            for s in range(SERIES_A_METRIC)
        ]
    )
    ts = np.tile(np.arange(1, SAMPLES + 1) * STEP_MS, table.size)
    values = np.random.default_rng(1).random(len(ts)).cumsum()
    return MemoryStorage.from_columns(table, np.arange(table.size + 1) * SAMPLES, ts, values)


if __name__ == "__main__":
    sys.exit(main())
