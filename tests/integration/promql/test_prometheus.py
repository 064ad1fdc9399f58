"""Random queries over both HTTP APIs, Prometheus' and this one, on the same samples."""

from __future__ import annotations

from random import Random

import pytest

from tests.integration.promql.answers import as_today, difference, known_difference
from tests.integration.promql.prometheus import missing
from tests.integration.promql.same_data import both_servers
from tests.integration.promql.shared_queries import Queries, random_request

QUERIES = 300

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module", params=[1, 2, 3])
def both(request, tmp_path_factory):
    """Clients of Prometheus and of the query service, and the random numbers to go on with."""
    r = Random(request.param)
    with both_servers(tmp_path_factory.mktemp("prometheus"), r) as (oracle, ours):
        yield oracle, ours, r


def test_random_queries_have_the_same_answers(both):
    oracle, ours, r = both
    queries, answered = Queries(r), 0

    for _ in range(QUERIES):
        query, (path, params) = queries.next(), random_request(r)
        expected = oracle.post(path, data={"query": query, **params}).json()
        found = ours.post(path, data={"query": as_today(query), **params}).json()

        if known_difference(query, expected, found) is None:
            unlike = difference(query, expected, found)
            assert unlike is None, f"{query} by {path} {params}: {unlike}"
        answered += expected["status"] == "success" and bool(expected["data"]["result"])

    assert answered > QUERIES / 2, "most queries select something"


def test_numbers_are_written_alike(both):
    oracle, ours, _ = both
    texts = ["0", "-0", "1e-7", "1e-6", "123456789", "1e20", "1e21", "-1.5e300", "0.1", "5e-324"]
    texts += ["1/3", "NaN", "Inf", "-Inf", "2^53", "0x1F", "017", "1.7976931348623157e308"]

    for text in [*texts, *(f"vector({text})" for text in texts)]:
        params = {"query": text, "time": "1700000000.123"}
        expected = oracle.get("/api/v1/query", params=params).json()["data"]
        assert ours.get("/api/v1/query", params=params).json()["data"] == expected, text
