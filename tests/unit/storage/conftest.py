from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from varve.storage.files import NewFile, write_file
from varve.storage.store import Store
from varve.storage.table import Table, create_tables


class Bench:
    """A store with an empty table `samples`, and short ways to fill it."""

    def __init__(self, store: Store) -> None:
        self.store = store
        create_tables(store, ("samples", "series"))

    def table(self) -> Table:
        return Table(self.store, "samples")

    def file(self, times: Sequence[int], series: int = 1) -> NewFile:
        rows = {"series_id": [series] * len(times), "ts": list(times), "value": map(float, times)}
        return write_file(self.store, "samples", rows_of(rows))


def rows_of(columns: dict) -> pa.Table:
    types = {"series_id": pa.int64(), "ts": pa.int64(), "value": pa.float64()}
    return pa.table({name: pa.array(list(columns[name]), types[name]) for name in types})


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Store(str(tmp_path / "tables")))
