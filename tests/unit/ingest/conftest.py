from __future__ import annotations

import pytest

from varve.storage.store import Store
from varve.storage.table import create_tables


@pytest.fixture
def store(tmp_path) -> Store:
    """One with the tables that ingest writes."""
    store = Store(str(tmp_path / "tables"))
    create_tables(store, ("samples", "series", "quarantine"))
    return store
