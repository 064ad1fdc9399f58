"""A home with rows in its tables, as they arrived and after compaction, for readers of others."""

from __future__ import annotations

import math
import random
import shutil
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.tables import WrittenTables
from varve.maintenance.compaction import TABLES as COMPACTED_TABLES
from varve.maintenance.compaction import Compaction
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

START = 1_795_338_000_000 // DAY_MS * DAY_MS
HOURS = 3
NOW_MS = START + 400 * DAY_MS
SERIES = [define("load", {"host": f"h{i}"}) for i in range(4)] + [
    define("requests_total", {"host": f"h{i}"}, metric_type="counter") for i in range(4)
]
TABLES_WITH_ROWS = ("samples", "series", "rollup_1m", "rollup_5m", "rollup_1h")


class HotAndCompacted:
    """Two stores of the same rows below a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        tables = WrittenTables(str(folder / "hot"))
        tables.define(SERIES, START)
        for number, part in enumerate(_parts()):
            tables.put(part, complete_ms=START + (number + 1) * HOUR_MS // 4)
        tables.put([], complete_ms=START + (HOURS + 1) * HOUR_MS)
        tables.roll_up()
        self.hot = tables.store
        shutil.copytree(folder / "hot", folder / "compacted")
        self.compacted = Store(str(folder / "compacted"))
        job = Compaction(self.compacted)
        while True:
            tables_now = {name: snapshot(self.compacted, name) for name in COMPACTED_TABLES}
            due = job.plan(NOW_MS, tables_now)
            if not due.merges:
                break
            job.run(due)
        self.first_hour_end_ms = START + HOUR_MS
        self.rows_of_first_hour = len(SERIES) * HOUR_MS // 20_000

    def without_later_hours(self) -> Store:
        """A copy of the compacted tables that lacks all files of samples but those of the first
        hour.
        """
        shutil.copytree(self._folder / "compacted", self._folder / "cut", dirs_exist_ok=True)
        store = Store(str(self._folder / "cut"))
        for file in snapshot(store, "samples").files:
            if file.minimum["ts"] > self.first_hour_end_ms:
                (self._folder / "cut" / "samples" / file.path).unlink()
        return store


def canonical(table: str, rows: pa.Table) -> list[tuple[Any, ...]]:
    """The rows in an order of their own, numbers as their bits; columns that keep a sample's value
    in another form are put together by the formula in schemas/tables.
    """
    found = rows.to_pylist()
    if table == "samples":
        found = [_whole(row) for row in found]
    names = sorted(found[0])
    return sorted((tuple(_bits(row[name]) for name in names) for row in found), key=repr)


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    row = dict(row)
    scaled, shift, divisor = (row.pop(name, None) for name in ("scaled", "shift", "divisor"))
    if scaled is not None:
        row["value"] = float(scaled + shift) / divisor
    return row


def _bits(value: Any) -> Any:
    if isinstance(value, float):
        return struct.pack("<d", value)
    if isinstance(value, dict):
        return sorted((key, _bits(v)) for key, v in value.items())
    if isinstance(value, list):
        return [_bits(v) for v in value]
    return value


def _parts() -> list[list[tuple[int, int, float | None]]]:
    """Quarters of an hour, of gauges with decimals and rare odd values, and counters."""
    rng = random.Random(3)
    odd = [math.nan, math.inf, -math.inf, None, 1e300, 5e-324, 0.0]
    totals = [rng.randrange(10**9) for _ in SERIES]
    parts: list[list[tuple[int, int, float | None]]] = []
    for quarter in range(4 * HOURS):
        part: list[tuple[int, int, float | None]] = []
        for k in range(HOUR_MS // 4 // 20_000):
            ts = START + quarter * HOUR_MS // 4 + (k + 1) * 20_000
            for i, series in enumerate(SERIES):
                totals[i] += rng.randrange(100)
                value = round(rng.gauss(50, 5), 2) if i < 4 else float(totals[i])
                if i == 1:
                    value = rng.random()
                part.append(
                    (series.series_id, ts, rng.choice(odd) if rng.random() < 0.01 else value)
                )
        parts.append(part)
    return parts


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> HotAndCompacted:
    return HotAndCompacted(tmp_path_factory.mktemp("readers"))


@pytest.fixture(scope="module", params=["hot", "compacted"])
def store(request: pytest.FixtureRequest, home: HotAndCompacted) -> Store:
    """Module by module and each opened once: what Spark takes a second for, a table, is not done
    for every test.
    """
    found: Store = getattr(home, request.param)
    return found
