"""How much faster than real time `varve rules backtest` is: rules over hours of samples in tables.

    make bench-backtest ARGS="--hours 24 --metrics 20"

Ten rules a metric, each of 50 series, a sample every 15 s, an evaluation every minute. Prints wall
and CPU seconds of the command, its start included. Exits 1 if it fails.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from tests.benchmarks.bench_rules import rules
from tests.tables import WrittenTables
from varve.model.identity import define
from varve.model.schema import table_schema
from varve.model.window import HOUR_MS
from varve.settings import Settings
from varve.storage import positions
from varve.storage.commit import Step, commit
from varve.storage.files import write_file
from varve.storage.table import Table

BEGIN_MS = 1_795_392_000_000
SERIES_A_METRIC, STEP_MS, INTERVAL_S = 50, 15_000, 60


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--hours", type=int, default=24)
    parser.add_argument("--metrics", type=int, default=20)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write(root / "tables", args.metrics, args.hours)
        (root / "rules.yml").write_text(rules(args.metrics))
        return measure(root, args)


def write(root: Path, metrics: int, hours: int) -> None:
    """A file of samples an hour, complete up to the end of the last."""
    tables = WrittenTables(str(root))
    definitions = [
        define(f"metric_{m}", {"instance": f"host-{s}", "job": f"job-{s % 10}"})
        for m in range(metrics)
        for s in range(SERIES_A_METRIC)
    ]
    tables.define(definitions)
    ids = np.sort(np.array([d.series_id for d in definitions], np.int64))
    schema, rng = table_schema("samples").arrow, np.random.default_rng(1)
    begin = np.zeros(len(ids))
    for hour in range(hours):
        ts = BEGIN_MS + hour * HOUR_MS + np.arange(0, HOUR_MS, STEP_MS)
        values = begin[:, None] + rng.random((len(ids), len(ts))).cumsum(axis=1)
        begin = values[:, -1]
        columns = [np.repeat(ids, len(ts)), np.tile(ts, len(ids)), values.ravel()]
        arrays = [
            pa.array(column).cast(field.type) for column, field in zip(columns, schema, strict=True)
        ]
        file = write_file(tables.store, "samples", pa.table(arrays, schema=schema))
        table, end_ms = Table(tables.store, "samples"), BEGIN_MS + (hour + 1) * HOUR_MS
        names = map(positions.complete, Settings().sample_queries())
        commit(table, [file], transactions={n: Step(table.position(n), end_ms) for n in names})


def measure(root: Path, args: argparse.Namespace) -> int:
    """Runs the command once."""
    end_s = BEGIN_MS // 1000 + 3600 * args.hours
    command = [
        *(sys.executable, "-m", "varve.cli", "rules", "backtest"),
        *("--from", str(BEGIN_MS // 1000), "--to", str(end_s - 1), "--format", "json"),
        str(root / "rules.yml"),
    ]
    environment = os.environ | {
        "VARVE_HOME": str(root / "home"),
        "VARVE_STORAGE__ROOT": str(root / "tables"),
        "VARVE_RULES__INTERVAL_S": str(INTERVAL_S),
    }
    began_s = time.perf_counter()
    found = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=False)
    wall_s = time.perf_counter() - began_s
    if found.returncode:
        return 1
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    report, cpu_s = json.loads(found.stdout), used.ru_utime + used.ru_stime
    print(
        f"{len(report['rules'])} rules, {args.metrics * SERIES_A_METRIC} series, {args.hours} h:"
        f" {wall_s:.1f} s, {cpu_s:.1f} CPU s, {used.ru_maxrss >> 10} MB:"
        f" {3600 * args.hours / wall_s:,.0f} times real time"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
