from collections import Counter

import pytest

from tests.unit.promql.differential import differences
from tests.unit.promql.random_queries import ALL
from varve.promql.function_table import AGGREGATIONS, FUNCTIONS

QUERIES_A_PART = 300


@pytest.mark.parametrize("part", range(10))
def test_engine_agrees_with_the_oracle_on_random_queries(part):
    used = Counter(dict.fromkeys(ALL, 0))

    unlike = next(differences(part, QUERIES_A_PART, used), None)

    assert unlike is None, unlike
    assert sum(used.values()) > QUERIES_A_PART


def test_random_queries_use_every_function_but_info():
    assert {*FUNCTIONS, *AGGREGATIONS} - {*ALL} == {"info"}
