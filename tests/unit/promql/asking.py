"""Short ways to fill a storage and to ask for an instant vector."""

from varve.promql.engine import Engine
from varve.promql.testing import MemoryStorage


def labels(name, **rest):
    return tuple(sorted({"__name__": name, **rest}.items()))


def storage_of(**series):
    """Series without labels, each with its (time in ms, value) points."""
    return MemoryStorage.of(
        {labels(name): [(t, v, 0) for t, v in points] for name, points in series.items()}
    )


def engine_of(series, every=10_000):
    """Series by their label sets, each with its values one after the other, None for none."""
    return Engine(
        MemoryStorage.of(
            {
                key: [(i * every, v, 0) for i, v in enumerate(values) if v is not None]
                for key, values in series.items()
            }
        )
    )


def vector(result):
    """{labels: value} in the order of the result, with a histogram in a value's place."""
    names, matrix = result.value.labels.labels(), result.value
    found = {}
    for row in result.order.tolist():
        histogram = None if matrix.histograms is None else matrix.histograms[row, 0]
        found[names[row]] = float(matrix.values[row, 0]) if histogram is None else histogram
    return found
