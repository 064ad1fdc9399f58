"""What is synced is read back in order, whatever happens to the file behind it."""

import errno
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.gateway.spool import Spool, SpooledMessage, adopt
from varve.gateway.spool_writer import SpoolWriter
from varve.model.clock import ManualClock
from varve.model.errors import StorageFull

messages = st.builds(
    SpooledMessage,
    st.integers(0, 2**32 - 1),
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=200),
    st.integers(0, 2**32 - 1),
)


def spool_in(folder, clock=None, **changes):
    bounds = {"max_bytes": 1 << 30, "max_age_ms": 10_000, "segment_bytes": 1_000} | changes
    return Spool(folder, **bounds, clock=clock or ManualClock(5))


def drained(spool):
    """All messages, oldest first, as whoever delivers them sees them; the spool is empty then."""
    found = []
    while (segment := spool.oldest()) is not None:
        found += [(m.partition, m.key, m.value, m.samples) for m in spool.read(segment)]
        spool.discard(segment)
    return found


def plain(sent):
    return [(m.partition, m.key, m.value, m.samples) for m in sent]


def message(n, size=100):
    return SpooledMessage(n, b"k" * 8, bytes([n % 256]) * size, n)


@given(st.lists(st.lists(messages, max_size=5), max_size=8), st.booleans())
def test_messages_are_read_back_in_order_by_this_process_or_the_next(
    tmp_path_factory, groups, restarted
):
    folder = tmp_path_factory.mktemp("spool")
    spool = spool_in(folder)
    for group in groups:
        spool.append(group)

    if restarted:  # as after kill -9: nothing is closed
        spool = spool_in(folder)

    assert drained(spool) == plain([m for group in groups for m in group])
    assert spool.size == 0
    assert list(folder.iterdir()) == []


def test_a_segment_cut_at_any_byte_gives_the_whole_records_before_it(tmp_path):
    sent = [message(n, 20) for n in range(4)]
    spool = spool_in(tmp_path / "whole", segment_bytes=1 << 20)
    for one in sent:
        spool.append([one])
    content = next((tmp_path / "whole").iterdir()).read_bytes()
    record = len(content) // 4

    for size in range(len(content) + 1):
        folder = tmp_path / str(size)
        folder.mkdir()
        (folder / "0000000007.spool").write_bytes(content[:size])
        cut = spool_in(folder)

        assert drained(cut) == plain(sent[: size // record])
        assert cut.damaged_bytes == size % record


def test_reading_ends_at_damage_and_what_is_behind_it_is_kept(tmp_path):
    sent = [message(n, 20) for n in range(4)]
    spool = spool_in(tmp_path, segment_bytes=1 << 20)
    spool.append(sent)
    spool.seal()
    path = next(tmp_path.iterdir())
    content = bytearray(path.read_bytes())
    record = len(content) // 4
    content[2 * record + 11] ^= 1
    path.write_bytes(content)
    again = spool_in(tmp_path)
    again.append([message(9)])

    assert drained(again) == plain([*sent[:2], message(9)])
    assert again.damaged_bytes == 2 * record
    assert (tmp_path / "0000000001.damaged").read_bytes() == content[2 * record :]


def test_a_new_process_writes_behind_what_the_old_one_wrote(tmp_path):
    spool_in(tmp_path).append([message(1)])
    spool_in(tmp_path).append([message(2)])

    assert drained(spool_in(tmp_path)) == plain([message(1), message(2)])


def test_beyond_its_bytes_or_its_age_it_takes_no_more_and_loses_nothing(tmp_path):
    clock = ManualClock(1_000)
    spool = spool_in(tmp_path / "bytes", clock, max_bytes=300)
    spool.append([message(1)])
    spool.append([message(2)])

    with pytest.raises(StorageFull, match="300 bytes"):
        spool.append([message(3)])
    assert drained(spool) == plain([message(1), message(2)])
    spool.append([message(4)])

    assert spool.why_full() == ""
    clock.advance(10_001)
    assert "waited" in spool.why_full()
    assert spool_in(tmp_path / "bytes", clock).oldest_ms() == 1_000
    with pytest.raises(StorageFull, match="waited"):
        spool.append([message(5)])
    assert drained(spool) == plain([message(4)])


@pytest.mark.parametrize("fails", ["write", "fdatasync"])
def test_what_the_disk_refuses_does_not_count_and_hurts_nothing_before(
    tmp_path, monkeypatch, fails
):
    spool = spool_in(tmp_path)
    spool.append([message(1)])
    real = getattr(os, fails)

    def failing(fd, *rest):
        if fails == "write":
            real(fd, rest[0][: len(rest[0]) // 2])  # half of it, then none
        raise OSError(errno.ENOSPC, "no space")

    with monkeypatch.context() as patch:
        patch.setattr(os, fails, failing)
        with pytest.raises(OSError, match="no space"):
            spool.append([message(2)])
    spool.append([message(3)])

    assert drained(spool_in(tmp_path)) == plain([message(1), message(3)])


def test_what_comes_while_the_disk_syncs_is_synced_together(tmp_path, monkeypatch):
    syncing, go_on, syncs = threading.Event(), threading.Event(), []
    real = os.fdatasync

    def slow(fd):
        syncs.append(fd)
        syncing.set()
        assert go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    spool = spool_in(tmp_path, segment_bytes=1 << 20)
    readable = []
    writer = SpoolWriter(spool, lambda: readable.append(1))
    done = threading.Semaphore(0)
    errors = []

    def written(error):
        errors.append(error)
        done.release()

    writer.append([message(0)], written)
    assert syncing.wait(30)
    for n in range(1, 20):
        writer.append([message(n)], written)
    assert errors == []
    go_on.set()
    for _ in range(20):
        assert done.acquire(timeout=30)
    writer.close()

    assert errors == [None] * 20
    assert len(syncs) == 2
    assert drained(spool) == plain([message(n) for n in range(20)])


def test_of_a_group_that_does_not_fit_what_fits_is_taken(tmp_path, monkeypatch):
    syncing, go_on = threading.Event(), threading.Event()
    real = os.fdatasync

    def slow(fd):
        syncing.set()
        assert go_on.wait(30)
        real(fd)

    monkeypatch.setattr(os, "fdatasync", slow)
    spool = spool_in(tmp_path, max_bytes=300)
    writer = SpoolWriter(spool, lambda: None)
    found = {}
    all_told = threading.Semaphore(0)

    def told(n):
        def written(error):
            found[n] = error
            all_told.release()

        return written

    writer.append([message(0)], told(0))
    assert syncing.wait(30)
    writer.append([message(1)], told(1))
    writer.append([message(2, 900)], told(2))
    go_on.set()
    for _ in range(3):
        assert all_told.acquire(timeout=30)
    writer.close()

    assert found[0] is None
    assert found[1] is None
    assert isinstance(found[2], StorageFull)
    assert drained(spool) == plain([message(0), message(1)])


def test_a_reader_that_is_faster_than_the_writer_loses_nothing(tmp_path):
    spool = spool_in(tmp_path, segment_bytes=1 << 20)
    ended = threading.Event()
    found = []

    def read():
        while not ended.is_set() or spool.oldest() is not None:
            found.extend(drained(spool))

    reader = threading.Thread(target=read)
    reader.start()
    sent = [message(n, 10) for n in range(2_000)]
    for one in sent:
        spool.append([one])
    ended.set()
    reader.join()

    assert found == plain(sent)


def test_a_spool_that_is_taken_over_is_read_behind_the_own_one(tmp_path):
    own, other = spool_in(tmp_path / "own"), spool_in(tmp_path / "other")
    own.append([message(1)])
    for n in range(2, 30):
        other.append([message(n)])

    assert adopt(tmp_path / "other", tmp_path / "own") > 1

    assert drained(spool_in(tmp_path / "own")) == plain([message(n) for n in range(1, 30)])
    assert adopt(tmp_path / "other", tmp_path / "own") == 0
    assert adopt(tmp_path / "never there", tmp_path / "own") == 0


def test_what_a_crash_leaves_of_a_take_over_is_taken_over_next_time(tmp_path, monkeypatch):
    other = spool_in(tmp_path / "other")
    for n in range(1, 30):
        other.append([message(n)])
    other.seal()
    real, moved = Path.rename, []

    def crashes(path, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        moved.append(target)
        return real(path, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", crashes)
        with pytest.raises(KeyboardInterrupt):
            adopt(tmp_path / "other", tmp_path / "own")
    adopt(tmp_path / "other", tmp_path / "own")

    assert drained(spool_in(tmp_path / "own")) == plain([message(n) for n in range(1, 30)])
