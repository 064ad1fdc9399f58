import numpy as np
import pytest

from varve.promql import kernels
from varve.promql.engine import Engine
from varve.promql.kernels.json import write_floats
from varve.promql.labels.label_table import LabelTable
from varve.promql.result_json import to_json
from varve.promql.testing import MemoryStorage


@pytest.fixture(scope="module")
def engine():
    """Over columns that cannot be written, as Arrow hands them out."""
    kernels.warm_up()
    columns = [np.array([0, 3], np.int64), np.array([1, 2, 3], np.int64), np.array([1.0, 2.0, 5.0])]
    for column in columns:
        column.flags.writeable = False
    return Engine(MemoryStorage.from_columns(LabelTable.of([{"__name__": "a"}]), *columns))


def test_warm_kernels_accept_only_the_types_of_their_signatures():
    assert kernels.warm_up() == kernels.warm_up() > 5

    with pytest.raises(TypeError):
        write_floats(np.zeros(99, np.uint8), np.zeros(2, np.int64), np.zeros(2, np.int64))


@pytest.mark.parametrize(
    "query",
    [
        "a",
        "sum(a)",
        "stddev(a)",
        "a[1m]",
        "rate(a[1m])",
        "sum by (x) (rate(a[1m]))",
        "quantile(0.5, a)",
        "max_over_time(a[1m:1ms])",
        "histogram_quantile(0.5, label_replace(a, 'le', '+Inf', '', ''))",
        "topk(1, a) + 1",
    ],
)
def test_read_only_columns_need_no_other_kernels(engine, query):
    assert b'"resultType"' in to_json(engine.instant(query, 10))
    if not query.endswith("]"):
        assert b'"resultType"' in to_json(engine.range(query, 0, 10, 5))
