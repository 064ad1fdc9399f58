from __future__ import annotations

import pickle
import threading

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from varve.storage.bounds import Bounds
from varve.storage.file_set import FileSet
from varve.storage.log import LiveFile

paths = st.integers(0, 30)
commits = st.lists(
    st.tuples(st.lists(paths, max_size=8), st.lists(paths, max_size=8), st.booleans()),
    max_size=40,
)


def file(path: int, at: int) -> LiveFile:
    low, high = {"ts": at, "series_id": path}, {"ts": at + 3, "series_id": path + 2}
    return LiveFile(str(path), 1, at, low, high)


def zones(files: FileSet) -> list[list[int]]:
    found = files.zones
    columns = (found.first_ms, found.last_ms, found.first_series, found.last_series)
    return [column.tolist() for column in columns]


@given(commits)
def test_every_set_of_a_line_is_that_of_its_commit_however_it_went_on(steps):
    files, held = FileSet((), "ts"), {}
    line = [(files, [])]
    for at, (removed, added, look) in enumerate(steps):
        came = [file(path, at) for path in added]
        for path in removed:
            held.pop(str(path), None)
        for one in came:
            held.pop(one.path, None)
            held[one.path] = one
        files = files.changed([str(path) for path in removed], came)
        if look:
            assert len(files.zones.first_ms) == len(held)
        line.append((files, list(held.values())))

    for files, want in line:
        assert len(files) == len(want)
        assert list(files) == want == list(files[:])
        assert zones(files) == zones(FileSet(want, "ts"))
        bounds = Bounds(2, 20, np.array([3, 4, 25]))
        assert files.select(bounds) == FileSet(want, "ts").select(bounds)


@given(commits, commits)
def test_two_may_go_on_from_one_set(one, other):
    start = FileSet([file(path, 0) for path in range(5)], "ts")
    ends = []
    for steps in (one, other):
        files = start
        for at, (removed, added, _) in enumerate(steps):
            files = files.changed(map(str, removed), [file(path, at) for path in added])
        ends.append(list(files))

    assert list(start) == [file(path, 0) for path in range(5)]
    for steps, end in zip((one, other), ends, strict=True):
        files = FileSet([file(path, 0) for path in range(5)], "ts")
        for at, (removed, added, _) in enumerate(steps):
            files = FileSet(files.changed(map(str, removed), [file(p, at) for p in added]), "ts")
        assert end == list(files)


def test_sets_may_be_asked_while_the_line_goes_on():
    files = FileSet([file(path, path) for path in range(100)], "ts")
    wrong, done = [], threading.Event()

    def ask(mine: FileSet, want: list[LiveFile]) -> None:
        while not done.is_set():
            if mine.select(Bounds(series=(0, 1 << 40))) != want or list(mine) != want:
                wrong.append(len(want))

    threads = []
    for at in range(3_000):
        files = files.changed([str(at)], [file(1_000 + at, at), file(10_000 + at, at)])
        if at % 1_000 == 10:
            threads.append(threading.Thread(target=ask, args=(files, list(files))))
            threads[-1].start()
    done.set()
    for thread in threads:
        thread.join()

    assert wrong == []


def test_a_file_without_statistics_overlaps_everything():
    files = FileSet([LiveFile("x", 1, 1, {}, {})], "ts")

    assert files.select(Bounds(5, 6, np.array([1]), (0, 2))) == list(files)


def test_a_set_survives_the_way_to_a_task():
    files = FileSet([file(1, 1)], "ts").changed(["1"], [file(2, 2)])

    again = pickle.loads(pickle.dumps(files))

    assert again == files
    assert again.select(Bounds(1, 5)) == [file(2, 2)]
