"""How far ingest is, from the tables alone."""

from __future__ import annotations

from tests.tables import WrittenTables
from varve.kafka.partitions import Partition
from varve.services.progress import Lag, left_of
from varve.settings import Settings
from varve.storage.commit import Step, commit
from varve.storage.table import Table

PARTITIONS = [Partition("raw-metrics", "id", number) for number in range(2)]


def store_up_to(tables, offset, partition=PARTITIONS[0]):
    table, name = Table(tables.store, "samples"), partition.position("bulk")
    commit(table, [], transactions={name: Step(table.position(name), offset)})


def test_what_was_produced_is_waited_for_and_what_comes_meanwhile_is_not(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    settings = Settings(home=tmp_path)
    store_up_to(tables, 90)
    seen = [Lag("bulk", PARTITIONS[0], 100, 90), Lag("bulk", PARTITIONS[1], 5, None)]
    assert left_of(settings, seen) == 15

    store_up_to(tables, 5, PARTITIONS[1])
    assert left_of(settings, seen) == 10

    # A producer has gone on sending, and ingest storing: up to 250 of 300.
    store_up_to(tables, 250)
    assert left_of(settings, seen) == 0
