"""The journal: whatever is cut off or damaged, what stands before it counts."""

from __future__ import annotations

import asyncio
import errno
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.model.errors import NeedsOperator
from varve.notify.journal import Journal
from varve.notify.journal_writer import JournalWriter
from varve.notify.records import Forgotten, GroupState, Sent, Told

RECORDS = [
    Sent(1, 2, 3),
    Told("a/webhook/0:{}", (1, 2**64 - 1), (), 5, 6, {"id": "x"}),
    GroupState('{}:{a="b"}', 7, 0, False),
    *(Forgotten(i) for i in range(20)),
]


def write(folder, batches) -> None:
    journal = Journal(folder)
    assert list(journal.read()) == []
    for batch in batches:
        journal.append(batch)
    journal.close()


def read(folder) -> tuple[list, list[str]]:
    journal = Journal(folder)
    found = list(journal.read())
    journal.abandon()
    return found, journal.notes


def test_what_is_appended_is_read_again(tmp_path):
    write(tmp_path, [RECORDS[:5], RECORDS[5:]])

    assert read(tmp_path) == (RECORDS, [])


def test_what_is_not_closed_is_read_again(tmp_path):
    journal = Journal(tmp_path)
    list(journal.read())
    journal.append(RECORDS)
    journal.abandon()

    assert read(tmp_path)[0] == RECORDS


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(st.data())
def test_a_journal_that_is_cut_anywhere_or_damaged_counts_up_to_there(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("state")
    write(folder, [[record] for record in RECORDS])
    path = folder / "journal-00000001"
    whole = path.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        path.write_bytes(whole[:at])
    else:
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])

    found, notes = read(folder)

    assert found == RECORDS[: len(found)]
    assert len(found) < len(RECORDS)
    rest = path.stat().st_size
    if notes:
        (aside,) = folder.glob("*.cut-at-*")
        assert path.name in notes[0]
        assert path.read_bytes()[:15] in {b"varve notify 1\n", b""} or rest == 0
        assert aside.stat().st_size > 0
    # And it can be written to again.
    journal = Journal(folder)
    list(journal.read())
    journal.append(RECORDS[:1])
    journal.close()
    assert read(folder)[0] == [*found, RECORDS[0]]


def test_a_snapshot_replaces_what_was_before_it(tmp_path):
    journal = Journal(tmp_path)
    list(journal.read())
    journal.append(RECORDS)
    number = journal.rotate()
    journal.append(RECORDS[:1])
    journal.write_snapshot(number, RECORDS[3:])
    journal.close()

    assert read(tmp_path)[0] == [*RECORDS[3:], RECORDS[0]]
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "journal-00000002",
        "lock",
        "snapshot-00000002",
    ]


def test_a_process_that_ends_before_its_snapshot_is_whole_has_the_journals(tmp_path):
    journal = Journal(tmp_path)
    list(journal.read())
    journal.append(RECORDS)
    journal.rotate()
    journal.append(RECORDS[:1])
    (tmp_path / "snapshot-00000002.new").write_bytes(b"varve notify 1\n half")
    journal.abandon()

    assert read(tmp_path)[0] == [*RECORDS, RECORDS[0]]


def test_a_damaged_snapshot_is_set_aside_and_said(tmp_path):
    journal = Journal(tmp_path)
    list(journal.read())
    number = journal.rotate()
    journal.write_snapshot(number, RECORDS)
    journal.append(RECORDS[:1])
    journal.close()
    path = tmp_path / "snapshot-00000002"
    path.write_bytes(path.read_bytes()[:-3])

    found, notes = read(tmp_path)

    assert found == [RECORDS[0]]
    assert "damaged" in notes[0]


def test_two_processes_do_not_share_a_folder(tmp_path):
    first = Journal(tmp_path)

    with pytest.raises(NeedsOperator, match="another process"):
        Journal(tmp_path)
    first.abandon()
    Journal(tmp_path).abandon()


def await_failure(writer: JournalWriter) -> None:
    deadline_s = time.monotonic() + 30
    while not writer.failure:
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


class FullDisk(Journal):
    """Takes nothing while it is full, as if there were no room."""

    full = False

    def append(self, records) -> None:
        if self.full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().append(records)


def test_what_a_full_disk_does_not_take_waits_until_it_does(tmp_path):
    async def story() -> None:
        journal = FullDisk(tmp_path)
        list(journal.read())
        writer = JournalWriter(journal)
        writer.start()
        journal.full = True
        writer.put(RECORDS[:1])
        writer.put(RECORDS[1:2])
        waiting = asyncio.create_task(writer.durable())
        await asyncio.to_thread(await_failure, writer)
        assert not waiting.done()

        journal.full = False

        async with asyncio.timeout(30):
            await waiting
        assert writer.failure == ""
        assert writer.stop(10)

    asyncio.run(story())

    assert read(tmp_path)[0] == RECORDS[:2]


def test_many_changes_become_durable_by_few_syncs(tmp_path):
    async def story() -> int:
        journal = Journal(tmp_path)
        list(journal.read())
        writer = JournalWriter(journal)
        for i in range(500):
            writer.put([Forgotten(i)])
        writer.start()
        await writer.durable()
        assert writer.stop(10)
        return writer.syncs

    assert asyncio.run(story()) < 50
    assert read(tmp_path)[0] == [Forgotten(i) for i in range(500)]


def test_a_long_journal_is_replaced_by_a_snapshot_while_it_is_written_to(tmp_path, monkeypatch):
    monkeypatch.setattr("varve.notify.journal_writer.LEAST_SNAPSHOT_BYTES", 2_000)

    async def story() -> None:
        journal = Journal(tmp_path)
        list(journal.read())
        writer = JournalWriter(journal)
        writer.start()
        kept: list = []
        for i in range(1_000):
            kept.append(Forgotten(i))
            writer.put([kept[-1]])
            if writer.wants_snapshot:
                writer.put_snapshot(list(kept))
            if i % 50 == 0:
                await writer.durable()
        await writer.durable()
        assert writer.stop(10)

    asyncio.run(story())

    assert read(tmp_path)[0] == [Forgotten(i) for i in range(1_000)]
    assert list(tmp_path.glob("snapshot-*"))
