"""The head: no sample is lost, or outlives its files, when files merge, age out or are replaced."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.window import HOUR_MS, MINUTE_MS
from varve.query.head import WIDEST_MS, Head
from varve.query.memory import HEAD, MemoryBudget
from varve.query.sample_columns import SampleColumns, merge
from varve.storage.log import LiveFile

Sample = tuple[int, int]
"""Series and time; its value follows from both."""


class Files:
    """Files by path, and the samples of those that are live."""

    def __init__(self):
        self.columns = {}
        self.live = {}
        self.rows = {}
        self.read_paths = []

    def write(self, samples):
        rows = sorted(set(samples))
        ids, begins = np.unique([i for i, _ in rows], return_index=True)
        ts = np.array([t for _, t in rows], dtype=np.int64)
        path = f"part-{len(self.columns)}"
        offsets = np.append(begins, len(rows)).astype(np.int64)
        self.columns[path] = SampleColumns.of(ids, offsets, ts, ts * 1.0)
        low = {"series_id": int(ids[0]), "ts": int(ts.min())}
        high = {"series_id": int(ids[-1]), "ts": int(ts.max())}
        self.live[path] = LiveFile(path, 100, len(rows), low, high)
        self.rows[path] = set(rows)
        return self.live[path]

    def remove(self, paths):
        return [self.live.pop(path) for path in sorted(paths)]

    def read(self, paths):
        self.read_paths += paths
        return [self.columns[path] for path in paths]

    def samples(self, paths=None):
        chosen = self.live if paths is None else paths
        return {row for path in chosen for row in self.rows[path]}


def held(head):
    return [
        (i, t)
        for run in head.sorted_runs()
        for i, t in zip(
            np.repeat(run.series_ids, np.diff(run.offsets)).tolist(), run.ts.tolist(), strict=True
        )
    ]


def require_exact(head, files):
    got = set(held(head))
    assert got <= files.samples(), "a row that no live file has"
    assert files.samples(head.paths) <= got, "a row of a file that is held is missing"
    assert head.paths <= files.live.keys()


times = st.one_of(
    st.integers(0, 4 * 60).map(lambda minute: minute * MINUTE_MS),
    st.integers(0, 40).map(lambda hour: hour * HOUR_MS + 7),
)
samples = st.lists(st.tuples(st.integers(0, 5), times), min_size=1, max_size=30)


@settings(max_examples=150)  # the first call compiles
@given(st.data(), st.integers(300, 6_000))
def test_the_head_has_what_its_files_have_whatever_becomes_of_them(data, max_bytes):
    files, budget = Files(), MemoryBudget(1 << 30)
    head = Head(files.read, max_bytes, budget)

    for _ in range(data.draw(st.integers(1, 12))):
        step = data.draw(st.sampled_from(["add", "add", "add", "compact", "delete", "vanish"]))
        some = data.draw(st.sets(st.sampled_from(sorted(files.live)))) if files.live else set()
        if step == "add":
            head.add([files.write(rows) for rows in data.draw(st.lists(samples, max_size=4))])
        elif step == "compact" and some:
            rows = sorted(files.samples(some))
            cut = data.draw(st.integers(0, len(rows) - 1))
            removed = files.remove(some)
            parts = [part for part in (rows[:cut], rows[cut:]) if part]
            head.replace(removed, [files.write(part) for part in parts], same_rows=True)
        elif step == "delete" and some:
            series = data.draw(st.integers(0, 5))
            rows = [row for row in files.samples(some) if row[0] != series]
            removed = files.remove(some)
            head.replace(removed, [files.write(rows)] if rows else [], same_rows=False)
        elif step == "vanish" and some:
            head.replace(files.remove(some), [], same_rows=False)
        waiting = [file for path, file in files.live.items() if path not in head.paths]
        head.add(waiting[: data.draw(st.integers(0, 3))])

        require_exact(head, files)
        assert head.nbytes <= max_bytes
        assert budget.used[HEAD] == head.nbytes


def test_compacted_files_are_held_without_being_read():
    files = Files()
    head = Head(files.read, 1 << 20)
    head.add([files.write([(i, t * MINUTE_MS)]) for i in range(3) for t in range(50, 70)])
    rows, read = files.samples(), len(files.read_paths)

    removed = files.remove([*files.live])
    head.replace(removed, [files.write(rows)], same_rows=True)
    head.add(files.live.values())

    assert len(head.paths) == 1
    assert len(files.read_paths) == read
    require_exact(head, files)


def test_a_file_that_is_held_in_part_is_read_where_it_was_compacted():
    """Of the two one is not held, so the head cannot know all of what they became."""
    files = Files()
    head = Head(files.read, 1 << 20)
    head.add([files.write([(1, HOUR_MS)])])
    files.write([(2, HOUR_MS)])

    rows = files.samples()
    head.replace(files.remove([*files.live]), [files.write(rows)], same_rows=True)

    assert not head.paths
    head.add(files.live.values())
    assert set(held(head)) == rows


def test_the_oldest_go_first_and_what_is_older_is_not_accepted():
    files = Files()
    head = Head(files.read, 60_000)
    for hour in range(0, 20, 2):
        head.add([files.write([(i, hour * HOUR_MS) for i in range(300)])])

    kept = {t // HOUR_MS for _, t in held(head)}

    assert kept == set(range(min(kept), 20, 2))
    assert 2 <= len(kept) < 10
    assert head.begin_ms == min(kept) * HOUR_MS
    old = files.write([(1, 0)])
    head.add([old])
    assert not head.accepts(old)
    assert old.path not in head.paths


def test_slots_are_halved_so_that_none_takes_the_bound_alone():
    files = Files()
    head = Head(files.read, 200_000)
    for second in range(0, 600, 10):
        rows = [(i, WIDEST_MS + second * 1_000) for i in range(300)]
        head.add([files.write(rows)])

    oldest = min(t for _, t in held(head))

    assert head.nbytes > 100_000
    assert head.begin_ms is not None
    assert oldest >= head.begin_ms
    assert max(t for _, t in held(head)) == WIDEST_MS + 590_000
    require_exact(head, files)


def test_many_small_files_are_few_runs():
    files = Files()
    head = Head(files.read, 1 << 22)

    for k in range(500):
        head.add([files.write([(i, HOUR_MS + k) for i in range(10)])])

    assert len(head.sorted_runs()) <= 10


def test_late_files_cost_no_merge_of_all_that_their_slot_has(monkeypatch):
    files = Files()
    head = Head(files.read, 1 << 24)
    head.add([files.write([(i, HOUR_MS + k) for i in range(10) for k in range(2_000)])])
    head.add([files.write([(1, 9 * HOUR_MS)])])
    merged = []
    monkeypatch.setattr(
        "varve.query.head.merge",
        lambda parts: merged.append(sum(p.rows for p in parts)) or merge(parts),
    )

    for k in range(100):
        head.add([files.write([(1, HOUR_MS + 5_000 + k)])])

    assert sum(merged) < 2_000
    require_exact(head, files)


def test_a_file_that_cannot_be_read_changes_nothing():
    files = Files()

    def fail(_paths):
        raise OSError("no such file")

    head = Head(fail, 1 << 20)

    with pytest.raises(OSError, match="no such file"):
        head.add([files.write([(1, 1)])])

    assert (head.nbytes, len(head.paths)) == (0, 0)
