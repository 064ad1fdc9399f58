"""What was imported from blocks of a Prometheus is answered as that Prometheus answers it."""

from __future__ import annotations

from random import Random

import pytest

from tests.integration.promql.answers import difference
from tests.integration.promql.imported_blocks import imported, random_question
from tests.integration.promql.prometheus import missing

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

DAYS, EVERY_S, QUESTIONS = 30, 600, 80


def test_queries_on_imported_blocks_are_answered_as_by_their_source(tmp_path):
    r = Random(4)
    some = 0
    with imported(tmp_path, r, days=DAYS, every_s=EVERY_S) as (oracle, ours):
        for _ in range(QUESTIONS):
            query, path, params = random_question(r, DAYS)
            expected = oracle.post(path, data={"query": query, **params}).json()
            found = ours.post(path, data={"query": query, **params}).json()
            assert difference(query, expected, found) is None, (query, params)
            some += bool(expected["data"]["result"])
    assert some > QUESTIONS / 2
