"""The tables of four_days.py, filled once."""

import shutil
from pathlib import Path

import pytest

from tests.tables import WrittenTables
from tests.unit.maintenance.four_days import fill
from varve.storage.store import Store


@pytest.fixture(scope="session")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("filled")
    fill(WrittenTables(str(folder)))
    return folder


@pytest.fixture
def tables(filled: Path, tmp_path: Path) -> WrittenTables:
    shutil.copytree(filled, tmp_path / "hot")
    made = WrittenTables(str(tmp_path / "hot"))
    made.store = Store(str(tmp_path / "hot"), {}, Store(str(tmp_path / "cold")))
    return made
