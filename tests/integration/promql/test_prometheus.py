"""Random queries over both HTTP APIs, Prometheus' and this one, on the same samples."""

from __future__ import annotations

import json
import math
import re
from random import Random

import httpx
import pytest

from tests.integration.api_service import served, service_over
from tests.integration.promql.prometheus import missing, prometheus
from tests.integration.promql.shared_queries import (
    BASE_MS,
    SPAN_S,
    STEP_S,
    Queries,
    random_data,
    random_time_s,
)
from tests.tables import WrittenTables
from varve.model.identity import define

QUERIES = 300
TOLERANCE = 1e-8
RENAMED = {"holt_winters": "double_exponential_smoothing"}

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())


@pytest.fixture(scope="module", params=[1, 2, 3])
def both(request, tmp_path_factory):
    """Clients of Prometheus and of the query service, and the random numbers to go on with."""
    r = Random(request.param)
    data = random_data(r)
    folder = tmp_path_factory.mktemp("prometheus")
    tables = WrittenTables(str(folder / "tables"))
    series = {key: define(dict(key)["__name__"], dict(key[1:])) for key in data}
    tables.define(series.values(), BASE_MS)
    tables.put([(series[key].series_id, t, v) for key, found in data.items() for t, v in found])
    service = service_over(tables, now_ms=BASE_MS + SPAN_S * 1000)
    with (
        prometheus(folder, data) as oracle,
        served(service) as address,
        httpx.Client(base_url=address, timeout=60) as ours,
    ):
        yield oracle, ours, r


def test_random_queries_have_the_same_answers(both):
    oracle, ours, r = both
    queries, answered = Queries(r), 0

    for _ in range(QUERIES):
        query, at = queries.next(), random_time_s(r)
        path, params = "/api/v1/query", {"time": at}
        if r.random() < 0.5:
            path = "/api/v1/query_range"
            params = {"start": at, "end": at + STEP_S * r.randrange(1, 20), "step": STEP_S}
        renamed = re.sub("|".join(RENAMED), lambda match: RENAMED[match[0]], query)
        expected = oracle.post(path, data={"query": query, **params}).json()
        found = ours.post(path, data={"query": renamed, **params}).json()

        where = f"{query} by {path} {params}"
        if "multiple matches" in found.get("error", "") and expected["status"] == "success":
            continue  # of late those that a comparison drops count as matches, too
        assert found["status"] == expected["status"], f"{where}: {expected} {found}"
        if expected["status"] == "error":
            assert found["errorType"] == expected["errorType"], where
            assert kind(found["error"]) == kind(expected["error"]), where
            continue
        answered += bool(expected["data"]["result"])
        unlike = difference(expected["data"], found["data"], ordered=query.startswith("sort"))
        assert unlike is None, f"{where}: {unlike}"

    assert answered > QUERIES / 2, "most queries select something"


def kind(error):
    """An error without the series, positions and parameters that it names."""
    return re.sub(r"\{.*?\}|\[.*\]|\d+|invalid parameter \"query\": ", "", error)


def difference(expected, found, *, ordered):
    """How an answer differs, None if it does not."""
    if expected["resultType"] != found["resultType"]:
        return f"a {expected['resultType']} and a {found['resultType']}"
    if expected["resultType"] == "scalar":
        return unlike_values([expected["result"]], [found["result"]])
    wanted, got = (
        {json.dumps(series["metric"], sort_keys=True): series for series in data["result"]}
        for data in (expected, found)
    )
    if wanted.keys() != got.keys():
        return f"only there: {wanted.keys() - got.keys()}, only here: {got.keys() - wanted.keys()}"
    if ordered and expected["resultType"] == "vector" and list(wanted) != list(got):
        return f"the order {list(wanted)} and {list(got)}"
    for key, series in wanted.items():
        points = [found.get("values") or [found["value"]] for found in (series, got[key])]
        if unlike := unlike_values(*points):
            return f"{key}: {unlike}"
    return None


def unlike_values(expected, found):
    if [t for t, _ in expected] != [t for t, _ in found]:
        return f"values at {[t for t, _ in expected]} and {[t for t, _ in found]}"
    for (t, wanted), (_, got) in zip(expected, found, strict=True):
        if wanted != got and not is_close(float(wanted), float(got)):
            return f"at {t} {wanted} and {got}"
    return None


def is_close(a, b):
    return math.isfinite(a) and abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1e-3)


def test_numbers_are_written_alike(both):
    oracle, ours, _ = both
    texts = ["0", "-0", "1e-7", "1e-6", "123456789", "1e20", "1e21", "-1.5e300", "0.1", "5e-324"]
    texts += ["1/3", "NaN", "Inf", "-Inf", "2^53", "0x1F", "017", "1.7976931348623157e308"]

    for text in [*texts, *(f"vector({text})" for text in texts)]:
        params = {"query": text, "time": "1700000000.123"}
        expected = oracle.get("/api/v1/query", params=params).json()["data"]
        assert ours.get("/api/v1/query", params=params).json()["data"] == expected, text
