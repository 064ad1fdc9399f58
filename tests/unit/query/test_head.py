"""The head: no sample is lost when files merge, age out or are replaced."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.window import HOUR_MS
from varve.query.head import Head
from varve.query.sample_columns import SampleColumns
from varve.storage.log import LiveFile


class Files:
    """Files by path, each of a few samples."""

    def __init__(self):
        self.columns = {}

    def make(self, hour, ids):
        ids = np.array(sorted(set(ids)), dtype=np.int64)
        ts = np.full(len(ids), hour * HOUR_MS + len(self.columns), dtype=np.int64)
        path = f"part-{len(self.columns)}"
        self.columns[path] = SampleColumns(ids, ts, ts.astype(np.float64))
        low = {"series_id": int(ids[0]), "ts": int(ts[0])}
        high = {"series_id": int(ids[-1]), "ts": int(ts[-1])}
        return LiveFile(path, 100, len(ids), low, high)

    def read(self, paths):
        return [self.columns[path] for path in paths]

    def samples(self, paths):
        return {
            (i, t)
            for path in paths
            for i, t in zip(
                self.columns[path].series_ids.tolist(), self.columns[path].ts.tolist(), strict=True
            )
        }


def held(head):
    return [
        (i, t)
        for run in head.sorted_runs()
        for i, t in zip(run.series_ids.tolist(), run.ts.tolist(), strict=True)
    ]


batches = st.lists(
    st.lists(
        st.tuples(st.integers(0, 3), st.lists(st.integers(0, 9), min_size=1, max_size=5)),
        min_size=1,
        max_size=3,
    ),
    max_size=8,
)


@settings(deadline=None)  # the first call compiles
@given(batches, st.integers(200, 2_000))
def test_what_is_held_is_what_was_added_less_what_was_dropped(batches, max_bytes):
    files = Files()
    head = Head(files.read, max_bytes)
    live = set()

    for batch in batches:
        added = [files.make(hour, ids) for hour, ids in batch]
        live |= {file.path for file in added}
        live -= head.add(added)

    got = held(head)
    assert len(got) == len(set(got))
    assert set(got) == files.samples(live)


@settings(deadline=None)
@given(batches, st.data())
def test_replaced_files_take_their_hour_with_them(batches, data):
    files = Files()
    head = Head(files.read, 1 << 20)
    live = set()
    for batch in batches:
        added = [files.make(hour, ids) for hour, ids in batch]
        live |= {file.path for file in added}
        head.add(added)
    gone = data.draw(st.sets(st.sampled_from(sorted(live)))) if live else set()

    dropped = head.remove(gone)

    assert dropped.isdisjoint(gone)
    assert set(held(head)) == files.samples(live - gone - dropped)


def test_many_small_files_of_an_hour_are_few_runs():
    files = Files()
    head = Head(files.read, 1 << 20)

    for _ in range(500):
        head.add([files.make(1, range(10))])

    assert len(head.sorted_runs()) <= 10
