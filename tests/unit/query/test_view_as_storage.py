"""The view over Delta tables is a Storage like any other."""

from dataclasses import replace

import pytest

from tests.tables import WrittenTables
from tests.unit.promql.asking import labels, vector
from tests.unit.promql.storage_suite import ALL, SERIES, StorageSuite, T, matchers
from varve.model.identity import define
from varve.promql.engine import Engine, Options
from varve.promql.errors import LimitError, StorageError
from varve.promql.evaluation.limits import Limits
from varve.promql.storage import SelectHints
from varve.query.file_table import FileTable
from varve.query.reader import Reader
from varve.query.tables import Tables
from varve.storage.snapshot import snapshot

CACHE_BYTES = 16 << 20


def definition(key):
    tags = dict(key)
    return define(tags.pop("__name__"), tags)


class ViewSuite(StorageSuite):
    in_memory = True

    def test_samples_are_admitted_before_memory_is_taken_for_them(self, open_storage):
        view = open_storage(SERIES)
        asked = []

        def refuse(samples):
            asked.append(samples)
            raise LimitError

        with pytest.raises(LimitError):
            view.select(matchers("up"), T + 1000, T + 60_000, SelectHints(admit=refuse))

        assert asked == [3]

    def test_a_series_is_not_refused_for_the_samples_of_others_in_its_files(self, open_storage):
        many = [labels("m", i=str(i)) for i in range(40)]
        data = {key: [(T + t * 60_000, 1.0) for t in range(120)] for key in many}
        engine = Engine(open_storage(data), Options(limits=Limits(max_samples=150)))

        found = vector(engine.instant('count_over_time(m{i="7"}[2h])', T + 7_199_000))

        assert found == {(("i", "7"),): 120.0}
        with pytest.raises(LimitError, match="query.max_samples"):
            engine.instant('count_over_time(m{i=~"7|8"}[2h])', T + 7_199_000)

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
