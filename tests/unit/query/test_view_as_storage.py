"""The view over Delta tables is a Storage like any other."""

from dataclasses import replace

import pytest

from tests.tables import WrittenTables
from tests.unit.promql.storage_suite import ALL, SERIES, StorageSuite, T
from varve.model.identity import define
from varve.promql.errors import StorageError
from varve.promql.storage import SelectHints
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.query.view import FileTable
from varve.storage.snapshot import snapshot

CACHE_BYTES = 16 << 20


def definition(key):
    tags = dict(key)
    return define(tags.pop("__name__"), tags)


class ViewSuite(StorageSuite):
    in_memory = True

    @pytest.fixture
    def open_storage(self, tmp_path):
        opened = []

        def open_storage(*batches):
            tables = WrittenTables(str(tmp_path / "tables"))
            known = set()
            for batch in batches:
                if batch.keys() - known:
                    tables.define(map(definition, batch.keys() - known))
                known |= batch.keys()
                samples = [
                    (definition(key).series_id, t, value)
                    for key, points in batch.items()
                    for t, value in points
                ]
                if samples:
                    tables.put(samples)
            followed = Tables(tables.store, ["test"], CACHE_BYTES)
            opened.append(followed)
            while not followed.caught_up:
                followed.poll()
            if self.in_memory:
                return Reader(followed.view)
            files = FileTable(snapshot(tables.store, "samples").files)
            return Reader(replace(followed.view, head=(), files=files))

        yield open_storage
        for followed in opened:
            followed.close()


class TestViewInMemory(ViewSuite):
    pass


class TestViewOfFiles(ViewSuite):
    in_memory = False

    def test_a_file_that_is_gone_is_a_storage_error(self, open_storage, tmp_path):
        view = open_storage(SERIES)
        for file in (tmp_path / "tables" / "samples").rglob("*.parquet"):
            file.unlink()

        with pytest.raises(StorageError, match="cannot read samples"):
            view.select([ALL], T, T + 90_000, SelectHints())
