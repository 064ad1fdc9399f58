"""What quality checks look at: small tables of facts about a range of time, read from the tables.

Rows are a random sample where a table is large, drawn by a seed, so that a check can be repeated.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from varve.model.schema import table_schema
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS, Window, floor_to, window_end
from varve.rollups.verify import verify
from varve.storage import positions
from varve.storage.bounds import Bounds
from varve.storage.log import entries, list_versions
from varve.storage.snapshot import Snapshot, snapshot
from varve.storage.store import Store
from varve.storage.table import Table

# A distance between two windows of a series that is so many times the usual one has a gap in it.
_GAP_FACTOR = 2.5


@dataclass(frozen=True, slots=True)
class Sampling:
    """How much is looked at."""

    window: Window
    now_ms: int
    seed: int
    rows: int
    """Rows of a table at most."""
    hours: int
    """Hours whose rollups are computed again from the samples."""


def table_rows(held: Snapshot, sampling: Sampling) -> pd.DataFrame:
    """Rows of a table within the range: of files in a random order until there are enough."""
    schema = table_schema(held.table)
    window = sampling.window
    has_range = schema.time_column is not None and held.table != "series"
    bounds = Bounds(window.start_ms, window.end_ms) if has_range else Bounds()
    files = held.select(bounds)
    drawn = np.random.default_rng(sampling.seed)
    files = [files[i] for i in drawn.permutation(len(files))]
    parts, rows = [schema.arrow.empty_table()], 0
    for file in files:
        part = held.scan(bounds, files=[file])
        parts.append(part)
        rows += part.num_rows
        if rows >= sampling.rows:
            break
    found = pa.concat_tables(parts, promote_options="default")
    if found.num_rows > sampling.rows:
        chosen = drawn.choice(found.num_rows, sampling.rows, replace=False)
        found = found.take(pa.array(np.sort(chosen)))
    # NULL and NaN are different values, and integers stay integers beside a NULL.
    return found.to_pandas(types_mapper=_nullable)


def counters(hours: Snapshot, series: Snapshot, sampling: Sampling) -> pd.DataFrame:
    """Of each counter with samples in the range: how many, and how often its value fell within an
    hour (a minute may have one sample).
    """
    definitions = series.scan(Bounds(), ["series_id", "metric", "type"])
    of_kind = definitions.filter(pc.equal(definitions["type"], "counter"))
    ids = np.unique(of_kind["series_id"].to_numpy())
    names = dict(zip(of_kind["series_id"].to_pylist(), of_kind["metric"].to_pylist(), strict=True))
    ids = _some(ids, sampling)
    window = sampling.window
    rows = _newest(
        hours.scan(
            Bounds(window.start_ms, window.end_ms, series_ids=ids),
            ["series_id", "window_end", "revision", "count", "resets"],
        )
    )
    grouped = rows.groupby("series_id", as_index=False)[["count", "resets"]].sum()
    grouped["metric"] = grouped["series_id"].map(names)
    grouped["reset_share"] = grouped["resets"] / grouped["count"].clip(lower=1)
    return grouped


def gaps(minutes: Snapshot, sampling: Sampling) -> pd.DataFrame:
    """Of each series with some regular distance between its windows: the share of windows between
    its first and last in the range that are missing.
    """
    window = sampling.window
    ids = np.unique(
        minutes.scan(Bounds(window.start_ms, window.end_ms), ["series_id"])["series_id"].to_numpy()
    )
    ids = _some(ids, sampling)
    rows = minutes.scan(
        Bounds(window.start_ms, window.end_ms, series_ids=ids), ["series_id", "window_end"]
    )
    frame = rows.to_pandas().drop_duplicates().sort_values(["series_id", "window_end"])
    frame["distance"] = frame.groupby("series_id")["window_end"].diff()
    usual = frame.groupby("series_id")["distance"].transform("median")
    frame["missing"] = np.where(
        frame["distance"] > _GAP_FACTOR * usual, (frame["distance"] / usual).round() - 1, 0
    )
    grouped = frame.groupby("series_id", as_index=False).agg(
        windows=("window_end", "size"), missing=("missing", "sum")
    )
    grouped["gap_share"] = grouped["missing"] / (grouped["missing"] + grouped["windows"])
    return grouped


def frontiers(store: Store, sampling: Sampling, bounds_s: Mapping[str, float]) -> pd.DataFrame:
    """Of each tier: seconds since the end of its last closed window, and how many there may be. The
    age of a tier that has closed none counts from the end of the first that there could be.
    """
    samples, rows = snapshot(store, "samples"), []
    for tier in TIERS:
        at = Table(store, tier.table).position(positions.frontier(tier.name))
        if at is None and samples.files:
            at = window_end(int(samples.zones.first_ms.min()), tier.width_ms)
        if at is not None:
            age_s = (sampling.now_ms - at) / 1000
            rows.append({"tier": tier.name, "age_s": age_s, "bound_s": bounds_s[tier.name]})
    return pd.DataFrame(rows, columns=["tier", "age_s", "bound_s"])


def accounting(store: Store, sampling: Sampling) -> pd.DataFrame:
    """Of each commit of ingest in the range that the log still has: what came in, and what of it is
    not accounted for.
    """
    versions = list_versions(store, "samples")
    rows = []
    for entry in entries(store, "samples", versions[0] - 1, versions[-1]) if versions else ():
        said, at_ms = entry.metadata, entry.timestamp_ms or 0
        if "in" not in said or not sampling.window.start_ms < at_ms <= sampling.window.end_ms:
            continue
        rejected = said.get("rejected") or {}
        refused = sum(rejected.values()) if isinstance(rejected, Mapping) else int(rejected)
        lost = said["in"] - said.get("stored", 0) - said.get("merged", 0) - refused
        rows.append({"version": entry.version, "samples": said["in"], "unaccounted": lost})
    return pd.DataFrame(rows, columns=["version", "samples", "unaccounted"])


def recomputed(store: Store, sampling: Sampling) -> pd.DataFrame:
    """Of random hours of the range: rows of each tier but 1d that were computed again from the
    samples, and how many values differ.
    """
    window = sampling.window
    begin, end = window_end(window.start_ms, HOUR_MS), floor_to(window.end_ms, HOUR_MS)
    hours = np.arange(begin, max(begin, end), HOUR_MS)
    drawn = np.random.default_rng(sampling.seed)
    chosen = drawn.choice(hours, min(sampling.hours, len(hours)), replace=False)
    rows = []
    for start in np.sort(chosen).tolist():
        report = verify(store, Window(start, start + HOUR_MS), TIERS[:3])
        for tier in TIERS[:3]:
            wrong = sum(found.tier == tier.name for found in report.differences)
            compared = report.rows[tier.name]
            rows.append(
                {"hour_ms": start, "tier": tier.name, "compared": compared, "differing": wrong}
            )
    return pd.DataFrame(rows, columns=["hour_ms", "tier", "compared", "differing"])


def _some(ids: np.ndarray, sampling: Sampling) -> np.ndarray:
    """As many series as have about the rows that may be looked at, sorted."""
    minutes = max(1, (sampling.window.end_ms - sampling.window.start_ms) // MINUTE_MS)
    most = max(10, sampling.rows // minutes)
    if len(ids) <= most:
        return ids
    return np.sort(np.random.default_rng(sampling.seed).choice(ids, most, replace=False))


def _newest(rows: pa.Table) -> pd.DataFrame:
    frame = rows.to_pandas().sort_values("revision")
    return frame.drop_duplicates(["series_id", "window_end"], keep="last")


def _nullable(kind: pa.DataType) -> pd.api.extensions.ExtensionDtype | None:
    return pd.Int64Dtype() if pa.types.is_integer(kind) else None


Facts = Mapping[str, Callable[[], pd.DataFrame]]
"""Frames by the name of the suite that judges them, each read when it is asked for."""


def all_facts(
    store: Store,
    snapshots: Mapping[str, Snapshot],
    sampling: Sampling,
    frontier_bounds_s: Mapping[str, float],
    tables: Sequence[str],
) -> Facts:
    """The facts of every suite. tables: those whose rows are looked at."""
    minutes, series = snapshots[TIERS[0].table], snapshots["series"]

    def rows_of(name: str) -> Callable[[], pd.DataFrame]:
        return lambda: table_rows(snapshots[name], sampling)

    return {name: rows_of(name) for name in tables} | {
        "counters": lambda: counters(snapshots[TIERS[2].table], series, sampling),
        "gaps": lambda: gaps(minutes, sampling),
        "frontier": lambda: frontiers(store, sampling, frontier_bounds_s),
        "accounting": lambda: accounting(store, sampling),
        "recomputed": lambda: recomputed(store, sampling),
    }
