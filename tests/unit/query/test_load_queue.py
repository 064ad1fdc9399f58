"""Which files are read next: the newest, and those that failed alone and after a wait."""

from __future__ import annotations

from varve.query.load_queue import LoadQueue
from varve.storage.log import LiveFile


def file(ts):
    return LiveFile(f"part-{ts}", 1, 1, {"ts": ts}, {"ts": ts})


def times(files):
    return [f.maximum["ts"] for f in files]


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


def test_the_newest_files_come_first():
    queue = LoadQueue()
    queue.put([file(3), file(1)])
    queue.put([file(2)])

    assert times(queue.take(2, 99)) == [3, 2]
    assert times(queue.take(2, 99)) == [1]
    assert not queue.is_due


def test_a_batch_is_bounded_in_rows():
    queue = LoadQueue()
    queue.put([file(1), file(2), file(3)])

    assert times(queue.take(9, 2)) == [3, 2]
    assert times(queue.take(9, 0)) == []
    assert times(queue.take(9, 1)) == [1]


def test_files_of_a_failed_read_come_one_by_one_at_once():
    queue = LoadQueue(Clock())
    queue.put([file(1), file(2)])

    queue.failed(queue.take(9, 99))

    first = queue.take(9, 99)
    queue.loaded(first)
    second = queue.take(9, 99)
    queue.loaded(second)
    assert sorted(times(first) + times(second)) == [1, 2]
    assert not queue.is_due


def test_a_file_that_failed_alone_waits_twice_as_long_each_time():
    clock = Clock()
    queue = LoadQueue(clock)
    queue.put([file(1)])

    waits = []
    for _ in range(9):
        queue.failed(queue.take(9, 99))
        began = clock.now_s
        assert queue.take(9, 99) == []
        while not queue.is_due:
            clock.now_s += 0.5
        waits.append(clock.now_s - began)

    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]


def test_new_files_do_not_wait_for_those_that_failed():
    clock = Clock()
    queue = LoadQueue(clock)
    queue.put([file(1)])
    queue.failed(queue.take(9, 99))

    queue.put([file(2)])
    clock.now_s = 1

    assert times(queue.take(9, 99)) == [2]
    batch = queue.take(9, 99)
    assert times(batch) == [1]
    queue.loaded(batch)
    assert not queue.is_due


def test_files_that_are_gone_or_too_old_are_forgotten():
    clock = Clock()
    queue = LoadQueue(clock)
    queue.put([file(1), file(2)])
    queue.failed(queue.take(9, 99))
    queue.put([file(3), file(4), file(5)])

    queue.keep({"part-2", "part-3", "part-4"})
    queue.drop_older(than_ms=4)
    clock.now_s = 9

    assert times(queue.take(9, 99)) == [4]
    assert queue.take(9, 99) == []
