"""A release that adds a column completes what a crash of the one before it has left owed."""

from __future__ import annotations

import dataclasses
import sys

import pyarrow as pa
import pytest

from tests.unit.ingest.messages import NOW_MS, as_json, record
from tests.unit.ingest.test_quarantine_replay import PARTITION, Driver
from tests.unit.rollups.simulation import START, Simulation
from varve.ingest import quarantine_replay
from varve.ingest.batch import BatchCommitter
from varve.ingest.reject_reasons import Reason
from varve.ingest.start_offsets import Start
from varve.model.schema import Column, table_schema
from varve.model.window import HOUR_MS, MINUTE_MS, TIERS
from varve.storage.bounds import Bounds
from varve.storage.commit import Removal, rewrite
from varve.storage.files import adopted, write_file
from varve.storage.snapshot import snapshot
from varve.storage.table import Table, create_tables

ADDED = Column("added", pa.int64(), "long", nullable=True, comment="New in this release.")


@pytest.fixture
def upgrade(monkeypatch):
    """From then on the code is that of a release in which a table has one more column."""

    def to(store, table, column=ADDED):
        def newer(name):
            schema = table_schema(name)
            if name != table:
                return schema
            return dataclasses.replace(schema, columns=(column, *schema.columns))

        for module in list(sys.modules.values()):
            if (
                getattr(module, "table_schema", None) is table_schema
                and module is not sys.modules[__name__]
            ):
                monkeypatch.setattr(module, "table_schema", newer)
        create_tables(store, (table,))

    return to


def rows(store, table):
    return snapshot(store, table).scan(Bounds()).to_pylist()


def test_owed_rejects_are_committed(store, monkeypatch, upgrade):
    with monkeypatch.context() as crash:
        crash.setattr(BatchCommitter, "_commit_rejects", lambda *_: None)
        Driver(store).ingest(b"garbage", as_json(record()))
    assert rows(store, "quarantine") == []
    upgrade(store, "quarantine")

    committer = BatchCommitter(store, "bulk", {PARTITION: Start(2, 2)})

    (row,) = rows(store, "quarantine")
    assert (row["value"], row["added"]) == (b"garbage", None)
    assert committer.state()[0] == {PARTITION: 2}


@pytest.mark.parametrize("compacted", [False, True])
def test_an_owed_replay_is_finished(store, monkeypatch, upgrade, compacted):
    driver = Driver(store)
    driver.ingest(as_json(record(NOW_MS - 30 * HOUR_MS)), b"garbage")

    def die(*_args, **_options):
        raise RuntimeError("killed")

    with monkeypatch.context() as crash:
        crash.setattr(quarantine_replay, "rewrite", die)
        with pytest.raises(RuntimeError):
            driver.replay(Reason.TOO_OLD, oldest_ms=0)
    if compacted:
        compact(store)
    upgrade(store, "quarantine")

    driver.replay(Reason.UNKNOWN_SERIES)

    assert driver.stored() == [NOW_MS - 30 * HOUR_MS]
    left = {(r["offset"], r["reason"], r["added"]) for r in rows(store, "quarantine")}
    assert (1, "malformed", None) in left
    if not compacted:
        assert left == {(1, "malformed", None)}


def compact(store):
    whole = snapshot(store, "quarantine")
    file = write_file(store, "quarantine", whole.scan(Bounds()))
    rewrite(Table(store, "quarantine"), [file], [Removal(f.path, f.size) for f in whole.files])


def test_owed_notes_of_repairs_are_written(tmp_path, upgrade):
    simulation = Simulation(tmp_path, repair_every_ms=0)
    simulation.put([(1, START + 10_000 * k, 1.0) for k in range(30)])
    simulation.advance(6 * MINUTE_MS)
    simulation.step("1m")
    simulation.put([(1, START + 5_000, 7.0)])
    simulation.crash("1m", when="committed")
    upgrade(simulation.store, "repairs")

    simulation.worker(TIERS[0]).recover()

    noted = [r for r in simulation.rows("repairs") if r["tier"] == "1m"]
    assert [(r["status"], r["windows"], r["added"]) for r in noted] == [("repaired", 1, None)]


def test_rollups_written_before_the_column_are_read_and_closed_over(tmp_path, upgrade):
    simulation = Simulation(tmp_path)
    simulation.put([(1, START + 10_000 * k, 1.0) for k in range(30)])
    simulation.advance(6 * MINUTE_MS)
    simulation.settle()
    upgrade(simulation.store, "samples")
    simulation.workers = {name: simulation.worker(w.tier) for name, w in simulation.workers.items()}
    simulation.input_ms += HOUR_MS
    simulation.advance(0)
    simulation.settle()

    assert simulation.pending() == []
    assert simulation.verify().differences == []


def test_a_file_of_other_columns_is_no_file_of_the_table(store, upgrade):
    with_value = write_file(
        store,
        "samples",
        pa.table({"series_id": [1], "ts": [1], "value": [1.0]}),
    )
    assert adopted(store, with_value) == with_value
    upgrade(store, "samples", dataclasses.replace(ADDED, name="must", nullable=False))

    with pytest.raises(ValueError, match="has no must, which is never NULL"):
        adopted(store, with_value)
