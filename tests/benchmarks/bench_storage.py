"""What a sample costs on disk: `python tests/benchmarks/bench_storage.py --data DIR [--hours N]`.

DIR holds the dataset of ../shared/bench. Its closed hours are stored as ingest does, a batch each
30 s, then compacted as `varve up` does it. Prints bytes a sample before and after, by class of
metric, and M samples compaction writes in a second of CPU. Then writes one hour in other ways, for
ADR 20: bytes a sample of each column, M samples written and read in a second of CPU, and what it
takes to read one row group.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

from varve.maintenance.compaction import Compaction  # noqa: E402
from varve.model import copies  # noqa: E402
from varve.model.window import HOUR_MS  # noqa: E402
from varve.storage.commit import Step, commit  # noqa: E402
from varve.storage.files import write_file  # noqa: E402
from varve.storage.layout import ARRIVAL, COMPACT  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table, create_tables  # noqa: E402

BATCH_MS = 30_000
COLUMNS = ("series_id", "ts", "value")
PAGES = {"data_page_size": 1 << 30, "max_rows_per_page": 1 << 30, "write_batch_size": 1 << 30}
PACKED = "DELTA_BINARY_PACKED"


def encodings() -> Iterable[tuple[str, dict[str, Any]]]:
    """Ways to write an hour."""
    yield "packed ts, zstd 1, groups of 131,072", way(PACKED, 1, 1, 131_072, {})
    yield "packed ts, zstd 9", way(PACKED, 9, 9, 131_072, {})
    yield "plain ts, pages of 20,000 rows", way("PLAIN", 6, 9, 524_288, {})
    for group in (131_072, 262_144, 524_288, 1_048_576, 4_194_304):
        yield f"plain ts, a page each {group:,}", way("PLAIN", 6, 9, group, PAGES)
    for level in (1, 3, 6, 12):
        yield f"the same of 524,288, values zstd {level}", way("PLAIN", 6, level, 524_288, PAGES)
    dictionary = way("PLAIN", 6, 9, 524_288, PAGES) | {"use_dictionary": ["value"]}
    dictionary["column_encoding"] = {"series_id": PACKED, "ts": "PLAIN"}
    yield "values by dictionary", dictionary
    split = way("PLAIN", 6, 9, 524_288, PAGES)
    split["column_encoding"] = split["column_encoding"] | {"value": "BYTE_STREAM_SPLIT"}
    yield "values byte-stream-split (not for Spark)", split


def way(
    ts: str, ts_level: int, value_level: int, group: int, pages: Mapping[str, int]
) -> dict[str, Any]:
    return {
        "row_group_size": group,
        "compression": "zstd",
        "compression_level": {"series_id": 3, "ts": ts_level, "value": value_level},
        "use_dictionary": False,
        "column_encoding": {"series_id": PACKED, "ts": ts, "value": "PLAIN"},
        "write_statistics": ["series_id", "ts"],
        "store_schema": False,
        **pages,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--hours", type=int, default=2, help="closed hours to store (default 2)")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    copies.merge(np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1))  # loads its kernel
    samples = closed_hours(args.data / "samples.parquet", args.hours)
    kinds = kinds_of(args.data / "series.parquet")
    stored_and_compacted(samples)
    hour = one_hour(samples)
    by_kind(hour, kinds)
    for name, options in encodings():
        encoded(name, hour, options)
    for name, nbytes in smallest_by_metric(hour).items():
        print(f"{name:62} {nbytes:6.3f} B a value")
    return 0


def closed_hours(path: Path, hours: int) -> pa.Table:
    """The last whole hours of the dataset, in the order of arrival."""
    samples = pq.read_table(path, columns=list(COLUMNS))
    ts = samples["ts"].to_numpy()
    end = int(ts.max()) // HOUR_MS * HOUR_MS
    return samples.filter(pa.array((ts > end - hours * HOUR_MS) & (ts <= end)))


def one_hour(samples: pa.Table) -> pa.Table:
    ts = samples["ts"].to_numpy()
    rows = samples.filter(pa.array(ts > int(ts.max()) // HOUR_MS * HOUR_MS - HOUR_MS))
    return sorted_by_series(rows if rows.num_rows else samples)


def sorted_by_series(rows: pa.Table) -> pa.Table:
    return rows.sort_by([("series_id", "ascending"), ("ts", "ascending")]).combine_chunks()


def kinds_of(path: Path) -> dict[str, np.ndarray]:
    """Ids of the series by the type of their metric."""
    series = pq.read_table(path, columns=["series_id", "type"])
    names = pc.unique(series["type"]).to_pylist()
    return {
        kind: np.sort(series.filter(pc.equal(series["type"], kind))["series_id"].to_numpy())
        for kind in names
    }


def stored_and_compacted(samples: pa.Table) -> None:
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        create_tables(store, ("samples",))
        table = Table(store, "samples")
        ts = samples["ts"].to_numpy()
        edges = np.searchsorted(ts, np.arange(ts[0], ts[-1] + BATCH_MS, BATCH_MS))
        for at, (start, end) in enumerate(zip(edges, [*edges[1:], len(ts)], strict=True)):
            if start < end:
                rows = sorted_by_series(samples.slice(start, end - start))
                step = Step(None if not at else at - 1, at)
                commit(table, [write_file(store, "samples", rows)], transactions={"bench": step})
        print_size("as it arrives", store)
        job, written, started = Compaction(store), 0, time.process_time()
        while (due := job.plan(1 << 42, {"samples": snapshot(store, "samples")})).merges:
            written += sum(merged.rows for merged in job.run(due).merged)
        cpu = time.process_time() - started
        print_size("compacted", store)
        rate = samples.num_rows / cpu / 1e6
        print(
            f"compaction {rate:.2f} M samples a CPU s, each written {written / len(ts):.2f} times"
        )


def print_size(name: str, store: Store) -> None:
    files = snapshot(store, "samples").files
    nbytes, rows = sum(f.size for f in files), sum(f.rows for f in files)
    print(f"{name:42} {nbytes / rows:6.3f} B a sample, {len(files)} files of {rows:,} rows")


def by_kind(hour: pa.Table, kinds: Mapping[str, np.ndarray]) -> None:
    """An hour of each class by itself, in the layouts in force."""
    ids = hour["series_id"].to_numpy()
    with tempfile.TemporaryDirectory() as root:
        store = Store(root)
        create_tables(store, ("samples",))
        for kind, members in kinds.items():
            rows = hour.filter(pa.array(np.isin(ids, members)))
            sizes = [write_file(store, "samples", rows, way).size for way in (ARRIVAL, COMPACT)]
            hot, compact = (size / rows.num_rows for size in sizes)
            share = rows.num_rows / hour.num_rows
            print(f"{kind:20} {share:4.0%} of samples  {hot:6.3f} B hot {compact:6.3f} compacted")


def encoded(name: str, hour: pa.Table, options: Mapping[str, Any]) -> None:
    out, rows, started = io.BytesIO(), hour.num_rows, time.process_time()
    pq.write_table(hour, out, **options)
    wrote = time.process_time() - started
    metadata = pq.ParquetFile(out).metadata
    groups = range(metadata.num_row_groups)
    columns = [
        sum(metadata.row_group(g).column(c).total_compressed_size for g in groups) / rows
        for c in range(len(COLUMNS))
    ]
    started = time.process_time()
    pq.ParquetFile(out).read(use_threads=False)
    read = time.process_time() - started
    one = []
    for _ in range(5):
        started = time.process_time()
        pq.ParquetFile(out).read_row_groups([len(groups) // 2], use_threads=False)
        one.append(time.process_time() - started)
    size = out.getbuffer().nbytes / rows
    parts = ", ".join(f"{c} {b:.3f}" for c, b in zip(COLUMNS, columns, strict=True))
    print(
        f"{name:42} {size:6.3f} B ({parts}), writes {rows / wrote / 1e6:.1f} M/CPU s,"
        f" reads {rows / read / 1e6:.0f}, a group {min(one) * 1e3:.1f} ms"
    )


def smallest_by_metric(hour: pa.Table) -> dict[str, float]:
    """Bytes a value, if each metric had the smallest of some encodings."""
    values, found = hour["value"].to_numpy(), dict.fromkeys(("dictionary", "split", "integers"), 0)
    metrics = np.flatnonzero(np.diff(hour["series_id"].to_numpy() >> 52)) + 1
    for part in np.split(values, metrics):
        plain = size_of(part, "PLAIN")
        found["dictionary"] += min(plain, size_of(part, None))
        found["split"] += min(plain, size_of(part, "BYTE_STREAM_SPLIT"))
        sizes = [plain]
        for digits in range(4):
            scaled = np.rint(part * 10**digits)
            if np.array_equal(scaled / 10**digits, part) and (np.abs(scaled) < 2**53).all():
                integers = scaled.astype(np.int64)
                sizes += [size_of(integers, PACKED), size_of(integers, "PLAIN")]
                break
        found["integers"] += min(sizes)
    return {f"smallest by metric of plain and {n}": b / len(values) for n, b in found.items()}


def size_of(values: np.ndarray, encoding: str | None) -> int:
    """Bytes of a column of its own. encoding: None for a dictionary."""
    out = io.BytesIO()
    options: dict[str, Any] = {"compression": "zstd", "compression_level": 9, **PAGES}
    if encoding is not None:
        options |= {"column_encoding": {"v": encoding}}
    pq.write_table(pa.table({"v": values}), out, use_dictionary=encoding is None, **options)
    return pq.ParquetFile(out).metadata.row_group(0).column(0).total_compressed_size


if __name__ == "__main__":
    sys.exit(main())
