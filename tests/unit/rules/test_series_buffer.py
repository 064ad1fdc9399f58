from random import Random

import numpy as np
import pytest

from tests.unit.promql.storage_suite import LOAD, StorageSuite, matchers, selected, stored
from varve.promql.histograms.native_histogram import FloatHistogram
from varve.promql.storage import SelectHints
from varve.rules.instant import Sample
from varve.rules.series_buffer import SeriesBuffer


class TestSeriesBuffer(StorageSuite):
    @pytest.fixture
    def open_storage(self):
        def open_storage(*batches):
            buffer = SeriesBuffer()
            for batch in batches:
                # A series without samples is none that rules could have written.
                buffer.write(
                    Sample(labels, t, stored(value))
                    for labels, points in batch.items()
                    for t, value in points
                )
            return buffer

        return open_storage


def test_what_was_selected_does_not_change_as_series_grow():
    buffer, random = SeriesBuffer(), Random(1)
    kept = []
    for t in range(2000):
        late = random.random() < 0.1
        buffer.write([Sample(LOAD, t - (random.randint(1, 50) if late else 0), float(t))])
        if t % 100 == 0:
            found = selected(buffer, matchers("load"), -100, 10_000)
            samples = buffer.select(matchers("load"), -100, 10_000, SelectHints()).samples
            kept.append((found, samples))

    for found, samples in kept:
        ts = samples.ts[samples.begins[0] : samples.ends[0]]
        assert ts.tolist() == [t for t, _ in found[LOAD]]


def test_histograms_are_read_back_as_from_a_store():
    buffer = SeriesBuffer()
    low, high = FloatHistogram(count=2.0, sum=3.0), FloatHistogram(count=4.0, sum=6.0)
    buffer.write([Sample(LOAD, 1, low), Sample(LOAD, 2, high), Sample(LOAD, 3, low)])

    samples = buffer.select(matchers("load"), 0, 9, SelectHints()).samples

    span = slice(samples.begins[0], samples.ends[0])
    hints = [one.hint for one in samples.histograms[span]]
    assert hints == ["unknown", "not_reset", "unknown"]
    assert samples.has_histograms.tolist() == [True]
    assert samples.ts[span].dtype == np.int64
