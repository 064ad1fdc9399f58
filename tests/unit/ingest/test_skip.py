import pytest

from tests.line import PARTITION, QUERY, Line
from tests.unit.ingest.messages import NOW_MS, as_json, record
from varve.ingest import batch as batch_module
from varve.ingest.skip import skip
from varve.kafka.message import Message
from varve.model.errors import BadRequest, Conflict
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.table import Table


@pytest.fixture
def line(tmp_path):
    line = Line(str(tmp_path / "tables"), NOW_MS)
    line.ingest(as_json(record(value=0.0)))
    return line


def park(line, offset, value=b"poison", earliest=0):
    message = Message(PARTITION.topic, 0, offset, NOW_MS, value, (("kind", b"\xff"),))
    return skip(line.store, QUERY, PARTITION, message, earliest=earliest, now_ms=NOW_MS + 1)


def position(line):
    return Table(line.store, "samples").position(PARTITION.position(QUERY))


def quarantined(line):
    return snapshot(line.store, "quarantine").scan(Bounds()).to_pylist()


def test_the_message_lies_in_quarantine_as_it_was_and_the_query_goes_on_behind_it(line):
    accounting = park(line, 1)

    assert position(line) == 2
    assert (accounting["in"], accounting["rejected"]) == (1, {"skipped": 1})
    (row,) = quarantined(line)
    assert (row["offset"], row["reason"], row["value"]) == (1, "skipped", b"poison")
    assert row["headers"] == [{"name": "kind", "value": b"\xff"}]
    again = Line(line.store.root, NOW_MS)
    assert again.next == 2
    again.ingest(as_json(record(NOW_MS + 1)))
    assert len(snapshot(line.store, "samples").scan(Bounds())) == 2


@pytest.mark.parametrize("offset", [0, 2, 1_000])
def test_only_the_next_message_can_be_skipped(line, offset):
    with pytest.raises(BadRequest, match="from offset 1 on"):
        park(line, offset)

    assert (position(line), quarantined(line)) == (1, [])


def test_a_partition_that_was_never_read_begins_with_its_first_message(tmp_path):
    line = Line(str(tmp_path / "tables"), NOW_MS)

    park(line, 7, earliest=7)

    assert position(line) == 8


def test_a_query_that_moves_meanwhile_is_not_overrun(line, monkeypatch):
    original = batch_module.commit

    def after_a_rival(table, *arguments, **options):
        if table.name == "samples":
            monkeypatch.setattr(batch_module, "commit", original)
            Line(line.store.root, NOW_MS).ingest(as_json(record(NOW_MS + 1)))
        return original(table, *arguments, **options)

    monkeypatch.setattr(batch_module, "commit", after_a_rival)

    with pytest.raises(Conflict):
        park(line, 1)

    assert (position(line), quarantined(line)) == (2, [])
