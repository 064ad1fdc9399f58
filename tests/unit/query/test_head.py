"""Small files in memory: nothing is lost when they merge, age out or are replaced."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.window import HOUR_MS
from varve.query.head import RecentFiles
from varve.query.sample_columns import Block
from varve.storage.log import LiveFile


class Files:
    """Files by path, each of a few samples."""

    def __init__(self):
        self.blocks = {}

    def make(self, hour, ids):
        ids = np.array(sorted(set(ids)), dtype=np.int64)
        ts = np.full(len(ids), hour * HOUR_MS + len(self.blocks), dtype=np.int64)
        path = f"part-{len(self.blocks)}"
        self.blocks[path] = Block(ids, ts, ts.astype(np.float64))
        low = {"series_id": int(ids[0]), "ts": int(ts[0])}
        high = {"series_id": int(ids[-1]), "ts": int(ts[-1])}
        return LiveFile(path, 100, len(ids), low, high)

    def read(self, paths):
        return [self.blocks[path] for path in paths]

    def samples(self, paths):
        return {
            (i, t)
            for path in paths
            for i, t in zip(
                self.blocks[path].series_ids.tolist(), self.blocks[path].ts.tolist(), strict=True
            )
        }


def held(recent):
    return [
        (i, t)
        for block in recent.blocks()
        for i, t in zip(block.series_ids.tolist(), block.ts.tolist(), strict=True)
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
    recent = RecentFiles(files.read, max_bytes)
    live = set()

    for batch in batches:
        added = [files.make(hour, ids) for hour, ids in batch]
        live |= {file.path for file in added}
        live -= recent.add(added)

    got = held(recent)
    assert len(got) == len(set(got))
    assert set(got) == files.samples(live)


@settings(deadline=None)
@given(batches, st.data())
def test_replaced_files_take_their_hour_with_them(batches, data):
    files = Files()
    recent = RecentFiles(files.read, 1 << 20)
    live = set()
    for batch in batches:
        added = [files.make(hour, ids) for hour, ids in batch]
        live |= {file.path for file in added}
        recent.add(added)
    gone = data.draw(st.sets(st.sampled_from(sorted(live)))) if live else set()

    loose = recent.remove(gone)

    assert loose.isdisjoint(gone)
    assert set(held(recent)) == files.samples(live - gone - loose)


def test_many_small_files_of_an_hour_are_few_blocks():
    files = Files()
    recent = RecentFiles(files.read, 1 << 20)

    for _ in range(500):
        recent.add([files.make(1, range(10))])

    assert len(recent.blocks()) <= 10
