"""Speed of writing files: `python tests/benchmarks/bench_storage.py [SERIES]`.

Writes 1 M samples sorted by (series_id, ts), of SERIES series (50,000), in the way in force and in
others, and prints M rows a CPU second and bytes a row of each. Compares encodings only: no disk.
"""

from __future__ import annotations

import io
import sys
import tempfile
import time

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varve.storage.files import write_file
from varve.storage.store import Store
from varve.storage.table import create_tables

ROWS = 1_000_000
INTEGERS = ["series_id", "ts"]
PACKED = dict.fromkeys(INTEGERS, "DELTA_BINARY_PACKED")
IN_FORCE = {
    "row_group_size": 131_072,
    "compression": "zstd",
    "compression_level": 1,
    "use_dictionary": False,
    "column_encoding": PACKED,
    "write_statistics": INTEGERS,
}
OTHERS = {
    "in force": {},
    "dictionary for value": {"use_dictionary": ["value"]},
    "dictionary for series_id": {
        "use_dictionary": ["series_id"],
        "column_encoding": {"ts": "DELTA_BINARY_PACKED"},
    },
    "zstd 3": {"compression_level": 3},
    "zstd -5": {"compression_level": -5},
    "lz4": {"compression": "lz4", "compression_level": None},
    "snappy": {"compression": "snappy", "compression_level": None},
    "row groups of 1 M": {"row_group_size": ROWS},
}


def batch(series: int) -> pa.Table:
    """A quarter each: counters, percentages, readings of one decimal, noise."""
    rng = np.random.default_rng(1)
    each = ROWS // series
    ids = np.sort(rng.integers(-(2**63), 2**63 - 1, series))
    phase = np.repeat(rng.integers(0, 5_000, series), each)
    kind = np.repeat(rng.integers(0, 4, series), each)
    n = series * each
    kinds = [
        np.cumsum(rng.integers(0, 50, n)).astype(float),
        rng.integers(0, 100, n) / 100,
        np.round(rng.normal(50, 10, n), 1),
        rng.normal(size=n),
    ]
    return pa.table(
        {
            "series_id": np.repeat(ids, each),
            "ts": 1_760_000_000_000 + np.tile(np.arange(each) * 5_000, series) + phase,
            "value": np.choose(kind, kinds),
        }
    )


def main(series: int) -> None:
    rows = batch(series)
    for name, change in OTHERS.items():
        seconds = []
        for _ in range(3):
            out = io.BytesIO()
            started = time.process_time()
            pq.write_table(rows, out, store_schema=False, **IN_FORCE | change)
            seconds.append(time.process_time() - started)
        print(f"{name:26} {ROWS / min(seconds) / 1e6:5.1f} M/CPU s {out.tell() / ROWS:5.2f} B/row")  # noqa: T201
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        create_tables(store, ("samples",))
        started, cpu = time.perf_counter(), time.process_time()
        write_file(store, "samples", rows)
        wall, cpu = time.perf_counter() - started, time.process_time() - cpu
        print(f"write_file, all of it      {ROWS / cpu / 1e6:5.1f} M/CPU s, {wall:.3f} s")  # noqa: T201


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
