import pytest

from tests.tables import WrittenTables
from varve.model.identity import define
from varve.services.table_sizes import TableSize, TableSizes
from varve.storage.checkpoint import CHECKPOINT_INTERVAL
from varve.storage.commit import Removal, rewrite
from varve.storage.store import Store
from varve.storage.table import Table
from varve.telemetry.metrics import TableMetrics
from varve.telemetry.registry import Telemetry

SERIES = define("load", {"job": "x"})


def _actual(store, name):
    files = Table(store, name, files=True).live_files().values()
    return len(files), sum(f.rows for f in files), sum(f.size for f in files)


def test_sizes_are_those_of_the_live_files_as_they_are_added_and_removed(tmp_path):
    tables = WrittenTables(str(tmp_path))
    size = TableSize(tables.store, "samples")
    assert size.look().files == 0

    for minute in range(5):
        tables.put([(SERIES.series_id, minute * 60_000 + n, 1.0) for n in range(10)])
        seen = size.look()
        assert (seen.files, seen.rows, seen.bytes) == _actual(tables.store, "samples")
    table = Table(tables.store, "samples", files=True)
    gone = next(iter(table.live_files().values()))
    rewrite(table, [], [Removal(gone.path, gone.size, rows_disappear=True)])

    seen = size.look()

    assert (seen.files, seen.rows) == (4, 40)
    assert (seen.files, seen.rows, seen.bytes) == _actual(tables.store, "samples")
    assert seen.version == table.version


def test_the_log_is_as_long_as_the_versions_since_the_checkpoint(tmp_path):
    tables = WrittenTables(str(tmp_path))
    size = TableSize(tables.store, "samples")
    assert size.look().log == size.look().version + 1

    for n in range(CHECKPOINT_INTERVAL + 5):
        tables.put([(SERIES.series_id, n, 1.0)])
    _checkpoints(tables.store)

    seen = size.look()
    assert seen.version == CHECKPOINT_INTERVAL + 5
    assert seen.log == seen.version - (CHECKPOINT_INTERVAL - 1)


def _checkpoints(store):
    """Waits until those under way are written."""
    import threading

    for thread in threading.enumerate():
        if thread.name == "checkpoint":
            thread.join(30)
    assert store.exists("samples", "_delta_log/_last_checkpoint")


def test_a_table_counts_once_it_is_there_and_a_failed_look_is_counted(tmp_path):
    telemetry = Telemetry()
    metrics = TableMetrics(telemetry)
    store = Store(str(tmp_path / "tables"))
    sizes = TableSizes(store, ["samples"], metrics)
    sizes.look()
    assert "varve_table_rows{" not in telemetry.page("")[0].decode()

    tables = WrittenTables(str(tmp_path / "tables"))
    tables.put([(SERIES.series_id, 1, 1.0)])
    sizes.look()

    assert 'varve_table_rows{table="samples"} 1.0' in telemetry.page("")[0].decode()


@pytest.mark.parametrize("failure", [PermissionError("no"), OSError("away")])
def test_a_storage_out_of_reach_leaves_the_figures_as_they_were(tmp_path, monkeypatch, failure):
    telemetry = Telemetry()
    tables = WrittenTables(str(tmp_path))
    tables.put([(SERIES.series_id, 1, 1.0)])
    sizes = TableSizes(tables.store, ["samples"], TableMetrics(telemetry))
    sizes.look()

    def fail(*_):
        raise failure

    monkeypatch.setattr(Store, "read_many", fail)
    sizes.look()

    text = telemetry.page("")[0].decode()
    assert 'varve_table_look_failures_total{table="samples"} 1.0' in text
    assert 'varve_table_rows{table="samples"} 1.0' in text
