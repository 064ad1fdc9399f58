"""Tables on which other programs have switched on what Varve does not implement."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from deltalake import DeltaTable

from varve.model.errors import Conflict, NeedsOperator
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit, rewrite
from varve.storage.log import file_name
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import Table, create_tables

READABLE = {
    "checkConstraints": {"minReaderVersion": 1, "minWriterVersion": 3},
    "changeDataFeed": {"minReaderVersion": 1, "minWriterVersion": 4},
    "identityColumns": {"minReaderVersion": 1, "minWriterVersion": 6},
    "inCommitTimestamp": {
        "minReaderVersion": 1,
        "minWriterVersion": 7,
        "writerFeatures": ["inCommitTimestamp"],
    },
    "rowTracking": {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": [],
        "writerFeatures": ["appendOnly", "rowTracking", "domainMetadata"],
    },
    "protocol": {"minReaderVersion": 1, "minWriterVersion": 8},
}
UNREADABLE = {
    "columnMapping": {"minReaderVersion": 2, "minWriterVersion": 5},
    "deletionVectors": {
        "minReaderVersion": 3,
        "minWriterVersion": 7,
        "readerFeatures": ["deletionVectors"],
        "writerFeatures": ["deletionVectors"],
    },
    "protocol": {"minReaderVersion": 4, "minWriterVersion": 7},
}
IMPLEMENTED = [
    {"minReaderVersion": 1, "minWriterVersion": 2},
    {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": [], "writerFeatures": []},
    {"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": ["appendOnly", "invariants"]},
]


def switch_on(bench, *actions: dict) -> None:
    """A commit by another program, after all there are."""
    table = bench.table()
    lines = "".join(json.dumps(action) + "\n" for action in actions)
    assert bench.store.put_if_absent("samples", file_name(table.version + 1), lines.encode())


def contents(store: Store) -> dict[Path, bytes]:
    """Every file of the tables."""
    paths = sorted(Path(store.root).rglob("*"))
    return {path: path.read_bytes() for path in paths if path.is_file()}


def attempts(table: Table, file) -> list:
    step = {"a": Step(None, 1)}
    return [
        lambda: commit(table, [file], transactions=step),
        lambda: rewrite(table, [file], []),
        lambda: create_tables(table.store, ("samples",)),
        lambda: table.set_metadata({"description": "x"}),
    ]


@pytest.mark.parametrize("feature", READABLE)
def test_a_table_with_a_foreign_writer_feature_is_read_but_not_written(bench, feature):
    before, file = bench.table(), bench.file([1])
    commit(before, [bench.file([5])], transactions={"b": Step(None, 1)})
    switch_on(bench, {"protocol": READABLE[feature]})
    held = contents(bench.store)

    for table in (before, bench.table()):
        for attempt in attempts(table, file):
            with pytest.raises(NeedsOperator, match=f"does not write: .*{feature}"):
                attempt()
            table.refresh()

    assert contents(bench.store) == held
    assert snapshot(bench.store, "samples").scan(Bounds()).column("ts").to_pylist() == [5]


@pytest.mark.parametrize("feature", UNREADABLE)
def test_a_table_with_a_foreign_reader_feature_is_not_even_opened(bench, feature):
    table, file = bench.table(), bench.file([1])
    switch_on(bench, {"protocol": UNREADABLE[feature]})
    held = contents(bench.store)

    for attempt in (
        table.refresh,
        table.refresh,
        bench.table,
        lambda: snapshot(bench.store, "samples"),
        *attempts(table, file)[:3],
    ):
        with pytest.raises(NeedsOperator, match=f"does not read: .*{feature}"):
            attempt()

    assert contents(bench.store) == held
    assert table.version == 0


@pytest.mark.parametrize("protocol", IMPLEMENTED)
def test_a_protocol_that_asks_for_nothing_else_is_written(bench, protocol):
    switch_on(bench, {"protocol": protocol})

    assert commit(bench.table(), [bench.file([1])], transactions={"a": Step(None, 1)}) == 2


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("appendOnly", {"configuration": {"delta.appendOnly": "true"}}),
        ("partitionColumns", {"partitionColumns": ["series_id"]}),
        ("invariants", {"schemaString": "invariant"}),
    ],
)
def test_what_a_property_switches_on_is_not_written(bench, name, change):
    table = bench.table()
    table_metadata = json.loads(bench.store.read("samples", file_name(0)).splitlines()[2])
    if name == "invariants":
        schema = json.loads(table_metadata["metaData"]["schemaString"])
        schema["fields"][1]["metadata"]["delta.invariants"] = '{"expression": "ts > 0"}'
        change = {"schemaString": json.dumps(schema)}
    switch_on(bench, {"metaData": table_metadata["metaData"] | change})
    held = contents(bench.store)

    for attempt in attempts(table, bench.file([1])):
        table.refresh()
        with pytest.raises(NeedsOperator, match=f"does not write: {name}"):
            attempt()
    assert len(contents(bench.store)) == len(held) + 1  # the data file of the attempts


def test_a_feature_that_a_rival_switches_on_under_a_commit_stops_it(bench, monkeypatch):
    table, file = bench.table(), bench.file([1])
    plain = Store.put_if_absent

    def overtaken(self, *args):
        monkeypatch.setattr(Store, "put_if_absent", plain)
        switch_on(bench, {"protocol": READABLE["inCommitTimestamp"]})
        return plain(self, *args)

    monkeypatch.setattr(Store, "put_if_absent", overtaken)

    with pytest.raises(Conflict, match="changed the table's columns or protocol"):
        commit(table, [file], transactions={"a": Step(None, 1)})
    with pytest.raises(NeedsOperator, match="inCommitTimestamp"):
        commit(table, [file], transactions={"a": Step(None, 1)})
    assert table.version == 1


def test_a_feature_switched_on_by_another_program_is_refused(bench):
    commit(bench.table(), [bench.file([1])], transactions={"a": Step(None, 1)})
    delta = DeltaTable(bench.store.uri("samples"))
    delta.alter.set_table_properties({"delta.enableChangeDataFeed": "true"})
    delta.alter.add_constraint({"later": "ts > 0"})

    with pytest.raises(NeedsOperator, match="does not write: .*(checkConstraints|changeDataFeed)"):
        commit(bench.table(), [bench.file([2])], transactions={"a": Step(1, 2)})


def test_a_feature_that_only_a_checkpoint_tells_of_is_refused_too(bench):
    switch_on(bench, {"protocol": READABLE["inCommitTimestamp"]})
    DeltaTable(bench.store.uri("samples")).create_checkpoint()
    (Path(bench.store.uri("samples")) / file_name(0)).unlink()

    table = bench.table()

    assert table.version == 1
    with pytest.raises(NeedsOperator, match="inCommitTimestamp"):
        table.require_writable()
