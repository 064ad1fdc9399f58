import numpy as np
import pytest

from tests.unit.promql.asking import labels
from tests.unit.promql.storage_suite import LOAD, UP_A, UP_B, StorageSuite, matchers, stored
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.labels.label_table import LabelTable
from varve.promql.storage import SelectHints
from varve.promql.syntax.ast import Matcher, MatchOp
from varve.promql.testing import MemoryStorage


class TestMemoryStorage(StorageSuite):
    @pytest.fixture
    def open_storage(self):
        def open_storage(*batches):
            storage = MemoryStorage.empty()
            for batch in batches:
                storage = storage.extended(
                    (key, [(t, stored(value), 0) for t, value in points])
                    for key, points in batch.items()
                )
            return storage

        return open_storage


def test_label_values_are_those_of_series_with_samples_in_the_range():
    storage = MemoryStorage.of({UP_A: [(1000, 1.0, 0)], UP_B: [(5000, 1.0, 0)]})

    assert storage.label_values("job", [], 0, 10_000) == ["node", "web"]
    assert storage.label_values("job", [], 0, 3000) == ["node"]


def test_a_histogram_replaces_whatever_was_there_before():
    storage = MemoryStorage.of({LOAD: [(5, 9.0, 0)]})
    histogram = FloatHistogram(count=2.0, sum=3.0)

    extended = storage.extended([(LOAD, [(5, histogram, 0)])])

    samples = extended.select(matchers("load"), 0, 9, SelectHints()).samples
    assert samples.histograms[0].equals(histogram)


def test_columns_are_reordered_with_their_series():
    table = LabelTable.of([{"__name__": "b"}, {"__name__": "a"}])
    storage = MemoryStorage.from_columns(
        table, np.array([0, 2, 3]), np.array([10, 20, 5]), np.array([1.0, 2.0, 3.0])
    )

    selection = storage.select([Matcher("__name__", MatchOp.NOT_EQUAL, "")], 0, 99, SelectHints())

    samples = selection.samples
    found = [
        samples.values[begin:end].tolist()
        for begin, end in zip(samples.begins, samples.ends, strict=True)
    ]
    assert selection.labels.labels() == [labels("a"), labels("b")]
    assert found == [[3.0], [1.0, 2.0]]


def test_two_series_with_the_same_labels_are_refused():
    table = LabelTable.of([{"a": "1"}, {"a": "1"}])

    with pytest.raises(ValueError, match="same labels"):
        MemoryStorage.from_columns(table, np.zeros(3, int), np.zeros(0, int), np.zeros(0))
