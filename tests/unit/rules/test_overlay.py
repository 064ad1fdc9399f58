import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.promql.storage_suite import ALL, StorageSuite, selected, stored
from varve.model.staleness import is_stale
from varve.promql.storage import SelectHints
from varve.promql.testing import MemoryStorage
from varve.rules.instant import Sample
from varve.rules.overlay import Overlay
from varve.rules.series_buffer import SeriesBuffer


def overlay_of(below, above):
    base = MemoryStorage.of({k: [(t, stored(v), 0) for t, v in p] for k, p in below.items()})
    buffer = SeriesBuffer()
    buffer.write(Sample(k, t, stored(v)) for k, points in above.items() for t, v in points)
    return Overlay(base, buffer)


class TestOverlay(StorageSuite):
    """Each batch but the last lies below, and of the last every second series."""

    @pytest.fixture
    def open_storage(self):
        def open_storage(*batches):
            *older, newest = batches
            below, above = {}, {}
            for batch in older:
                for labels, points in batch.items():
                    below.setdefault(labels, []).extend(points)
            for i, (labels, points) in enumerate(newest.items()):
                target = above if i % 2 and points else below
                target.setdefault(labels, []).extend(points)
            return overlay_of(below, above)

        return open_storage


NAMES = [(("__name__", name), ("x", x)) for name in "ab" for x in "12"]
VALUES = st.sampled_from([1.0, 2.0, -1.0, float("nan"), None])
POINTS = st.lists(st.tuples(st.integers(1, 8), VALUES), max_size=6)
BATCHES = st.dictionaries(st.sampled_from(NAMES), POINTS, max_size=4)


@given(BATCHES, BATCHES)
def test_it_is_what_one_storage_with_all_of_it_is(below, above):
    together = {}
    for batch in (below, above):
        for labels, points in batch.items():
            together.setdefault(labels, []).extend((t, stored(v), 0) for t, v in points)

    found = selected(overlay_of(below, above), [ALL], 0, 100)

    expected = selected(MemoryStorage.of(together), [ALL], 0, 100)
    assert str({k: v for k, v in found.items() if v}) == str(
        {k: v for k, v in expected.items() if v}
    )


def test_copies_in_both_are_one_sample():
    key = NAMES[0]
    overlay = overlay_of({key: [(1, 1.0), (2, None)]}, {key: [(1, 3.0), (2, 0.5), (3, None)]})

    samples = overlay.select([ALL], 0, 9, SelectHints()).samples

    values = samples.values[samples.begins[0] : samples.ends[0]]
    assert values.tolist()[:2] == [3.0, 0.5]
    assert is_stale(values).tolist() == [False, False, True]
