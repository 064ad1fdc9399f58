"""What a sample costs on disk: `python tests/benchmarks/bench_storage.py --data DIR [--hours N]`.

DIR holds the dataset of ../shared/bench. Its closed hours are stored as ingest does, a batch each
30 s, then compacted as `varve up` does it. Prints bytes a sample before and after, by class of
metric, beside the peers' (../shared/bench/PEERS.md), M samples that compaction writes in a second
of CPU, and what it takes of a core that ingests. Then writes one hour in other ways, for ADR 29:
bytes a sample of each column, M samples written and read in a second of CPU, and what it takes to
read one row group; and what values would take if each metric had the smallest of some encodings.
--brief leaves those out.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import io
import itertools
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
from varve.model.compiled import warm_up  # noqa: E402
from varve.model.window import HOUR_MS  # noqa: E402
from varve.storage import scaled_values  # noqa: E402
from varve.storage.commit import Step, commit  # noqa: E402
from varve.storage.files import write_file  # noqa: E402
from varve.storage.layout import ARRIVAL, COMPACT  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table, create_tables  # noqa: E402

BATCH_MS = 30_000
COLUMNS = ("series_id", "ts", "value")
INGESTED = 100_000
"""Samples a second, of which compaction's share of a core is told."""
PAGES = {"data_page_size": 1 << 30, "max_rows_per_page": 1 << 30, "write_batch_size": 1 << 30}
PACKED = "DELTA_BINARY_PACKED"


def layouts() -> Iterable[tuple[str, dict[str, Any]]]:
    """Ways to write an hour; those with integers take rows as `scaled_values.split` gives them."""
    yield "doubles, zstd 9, groups of 524,288", written(524_288, {"value": 9})
    for group in (524_288, 1_048_576, 2_097_152):
        yield f"integers, zstd 3, groups of {group:,}", written(group, {})
    for level in (1, 6, 9):
        yield f"integers, zstd {level}, groups of 524,288", written(524_288, {"scaled": level})
    for level in (3, 5, 9, 19):
        yield f"integers, times with zstd {level}", written(1_048_576, {"ts": level})
    yield "integers, times packed", written(1_048_576, {}, {"ts": PACKED})
    yield "integers, times by dictionary", written(1_048_576, {}, {"ts": None})


def written(
    group: int, levels: Mapping[str, int], encodings: Mapping[str, str | None] | None = None
) -> dict[str, Any]:
    """Options of pyarrow. encodings: beside those in force; None is a dictionary."""
    chosen: dict[str, str | None] = {
        "series_id": PACKED, "ts": "PLAIN", "value": "PLAIN", "scaled": PACKED, "shift": None,
        "divisor": None,
    }  # fmt: skip
    chosen |= encodings or {}
    return {
        "row_group_size": group,
        "compression": "zstd",
        "compression_level": {**dict.fromkeys(chosen, 3), "ts": 6, **levels},
        "use_dictionary": [name for name, encoding in chosen.items() if encoding is None],
        "column_encoding": {name: e for name, e in chosen.items() if e is not None},
        "write_statistics": ["series_id", "ts"],
        "store_schema": False,
        **PAGES,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True, metavar="DIR")
    parser.add_argument("--hours", type=int, default=2, help="closed hours to store (default 2)")
    parser.add_argument("--brief", action="store_true", help="without other ways to write an hour")
    args = parser.parse_args()
    pa.set_cpu_count(1)
    warm_up("varve.model.copies", "varve.storage.scaled_values")
    samples = closed_hours(args.data / "samples.parquet", args.hours)
    kinds = kinds_of(args.data / "series.parquet")
    stored_and_compacted(samples)
    hour = one_hour(samples)
    by_kind(hour, kinds)
    print("peers, index included: Prometheus 3.48 B, VictoriaMetrics 1.26 B (values rounded)")
    if args.brief:
        return 0
    scaled = scaled_values.split(hour)
    for name, options in layouts():
        encoded(name, hour if name.startswith("doubles") else scaled, options)
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
        job, rows_written, started = Compaction(store), 0, time.process_time()
        while (due := job.plan(1 << 42, {"samples": snapshot(store, "samples")})).merges:
            rows_written += sum(merged.rows for merged in job.run(due).merged)
        cpu = time.process_time() - started
        print_size("compacted", store)
        rate = samples.num_rows / cpu
        print(
            f"compaction {rate / 1e6:.2f} M samples a CPU s, each written"
            f" {rows_written / len(ts):.2f} times: at {INGESTED:,} samples/s"
            f" {INGESTED / rate:.1%} of a core"
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
        for c in range(hour.num_columns)
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
    parts = ", ".join(f"{c} {b:.3f}" for c, b in zip(hour.column_names, columns, strict=True))
    print(
        f"{name:42} {size:6.3f} B ({parts}), writes {rows / wrote / 1e6:.1f} M/CPU s,"
        f" reads {rows / read / 1e6:.0f}, a group {min(one) * 1e3:.1f} ms"
    )


def smallest_by_metric(hour: pa.Table) -> dict[str, float]:
    """Bytes a value, if each metric had the smallest of some encodings."""
    ids, values = hour["series_id"].to_numpy(), hour["value"].to_numpy()
    scaled = scaled_values.split(hour)
    is_whole = scaled["scaled"].is_null().to_numpy()
    packed = scaled["scaled"].fill_null(0).to_numpy()
    whole = packed + scaled["shift"].fill_null(0).to_numpy()
    edges = [0, *(np.flatnonzero(np.diff(ids >> 52)) + 1), len(ids)]
    found = dict.fromkeys(("nothing", "dictionary", "split", "integers", "continued"), 0)
    for begin, end in itertools.pairwise(edges):
        part, is_scaled = values[begin:end], not is_whole[begin:end].any()
        plain = size_of(part, "PLAIN")
        found["nothing"] += plain
        found["dictionary"] += min(plain, size_of(part, None))
        found["split"] += min(plain, size_of(part, "BYTE_STREAM_SPLIT"))
        integers = continued = plain
        if is_scaled:
            numbers = whole[begin:end]
            integers = min(plain, size_of(numbers, PACKED), size_of(numbers, "PLAIN"))
            continued = min(plain, size_of(packed[begin:end], PACKED))
        found["integers"] += integers
        found["continued"] += continued
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
