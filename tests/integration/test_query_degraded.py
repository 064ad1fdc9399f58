"""Queries that take too much, asked with degrade=sample: estimates, kept steps, errors."""

from __future__ import annotations

from dataclasses import replace

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import NOW_MS, service_over
from tests.tables import WrittenTables
from varve.api.app import create_app
from varve.model.identity import define
from varve.promql.errors import LimitError
from varve.promql.evaluation.limits import Limits
from varve.query.degraded import evaluate_or_estimate
from varve.query.evaluation import Range, evaluate
from varve.query.memory import QUERIES, UNBOUNDED, MemoryBudget, Reservation
from varve.query.step_cache import StepCache

SERIES, SAMPLES = 4_000, 8
NOW = NOW_MS / 1000
FEW = Limits(max_samples=SERIES * SAMPLES // 4)
GROUPS = [{"zone": zone} for zone in "abcd"]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A counter and a gauge of many instances in four zones; rates are 1 to 1.9 a second."""
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    series = [define("x_total", {"i": f"{i:04}", "zone": "abcd"[i % 4]}) for i in range(SERIES)]
    tables.define(series, NOW_MS)
    tables.put(
        [
            (one.series_id, NOW_MS - 15_000 * back, 1e6 - 15.0 * back * (1 + i % 10 / 10))
            for i, one in enumerate(series)
            for back in range(SAMPLES)
        ],
        complete_ms=NOW_MS,
    )
    return tables


@pytest.fixture(scope="module")
def client(tables):
    with TestClient(create_app(service_over(tables, limits=FEW))) as client:
        yield client


def ask(client, query, **more):
    return client.get("/api/v1/query", params={"query": query, "degrade": "sample", **more})


@pytest.mark.parametrize(
    ("query", "truth"),
    [
        ("sum(rate(x_total[2m]))", SERIES * 1.45),
        ("avg(rate(x_total[2m]))", 1.45),
        ("count(rate(x_total[2m]) * 1)", SERIES),
        ("sum(count_over_time(x_total[2m]))", SERIES * SAMPLES),
    ],
)
def test_what_is_over_a_limit_is_estimated_with_a_bound_and_says_so(client, query, truth):
    answer = ask(client, query)

    body = answer.json()
    assert answer.status_code == 200, body
    ((_, value),) = (one["value"] for one in body["data"]["result"])
    sampled = body["provenance"]["sampled"]
    ((bound,),) = (one["values"] for one in sampled["bounds"])
    assert abs(float(value) - truth) <= 2 * bound + 1e-6 * truth
    assert (sampled["series"], sampled["of"], sampled["confidence"]) == (250, SERIES, 0.95)
    assert body["warnings"][0].startswith("sampled: 250 of 4,000 series were read")
    assert answer.headers["varve-sampled"] == "true"


def test_groups_have_bounds_of_their_own_at_each_step(client):
    times = {"start": NOW - 30, "end": NOW, "step": 15}
    query = {"query": "avg by (zone) (rate(x_total[1m]))", "degrade": "sample", **times}

    body = client.get("/api/v1/query_range", params=query).json()

    result, bounds = body["data"]["result"], body["provenance"]["sampled"]["bounds"]
    assert [one["metric"] for one in result] == GROUPS == [one["metric"] for one in bounds]
    assert all(len(one["values"]) == 3 for one in (*result, *bounds))
    for one, bound in zip(result, bounds, strict=True):
        for (_, value), width in zip(one["values"], bound["values"], strict=True):
            assert abs(float(value) - 1.45) < 0.2
            assert 0 < width < 0.3


def test_what_fits_is_exact(client):
    body = ask(client, 'sum(x_total{i="0001"})').json()

    assert body["provenance"]["sampled"] is None
    assert "warnings" not in body
    assert body["data"]["result"][0]["value"][1] == "1000000"


def test_what_does_not_fit_in_memory_is_estimated_in_what_it_had(tables):
    service = service_over(tables)
    view = service.view()
    budget = MemoryBudget(1_200_000)  # of samples alone there are 512,000 bytes, and then values
    times = Range(NOW_MS - 60_000, NOW_MS, 1_000)
    with Reservation(budget) as memory:
        asked = replace(service.options, memory=memory, limits=Limits())
        with pytest.raises(LimitError, match=r"query\.memory_mb"):
            evaluate(view, "sum(x_total * 2)", times, asked)
    with Reservation(budget) as memory:
        asked = replace(service.options, memory=memory, limits=Limits())
        found = evaluate_or_estimate(view, "sum(x_total * 2)", times, asked)

    assert found.provenance.sampled.drawn == 250
    assert len(found.result.times) == 61
    assert budget.used[QUERIES] == 0


@pytest.mark.parametrize(
    "query",
    ["max(rate(x_total[2m]))", "topk(3, rate(x_total[2m]))", "quantile(0.5, rate(x_total[2m]))"],
)
def test_what_has_no_error_to_state_fails_as_without(client, query):
    with_it = ask(client, query)
    without = client.get("/api/v1/query", params={"query": query})

    assert with_it.status_code == without.status_code == 422
    assert "query.max_samples" in with_it.json()["error"]
    assert with_it.json()["error"] == without.json()["error"]


def test_nothing_is_estimated_unless_asked_for(client):
    query = {"query": "sum(rate(x_total[2m]))"}

    assert client.get("/api/v1/query", params=query).status_code == 422
    wrong = client.get("/api/v1/query", params={**query, "degrade": "yes"})
    assert (wrong.status_code, wrong.json()["errorType"]) == (400, "bad_data")


def test_steps_of_an_earlier_answer_stand_in_for_what_has_no_estimate(tables):
    service = service_over(tables)
    kept = StepCache(1 << 20, MemoryBudget(UNBOUNDED))
    service.options = replace(service.options, steps=kept)
    query = {"query": "max(rate(x_total[1m]))", "step": 15, "degrade": "sample"}
    with TestClient(create_app(service)) as client:
        before = client.get(
            "/api/v1/query_range", params={**query, "start": NOW - 30, "end": NOW}
        ).json()
        # Each step that is computed reads more than this now.
        service.options = replace(service.options, limits=Limits(max_samples=100))
        body = client.get(
            "/api/v1/query_range", params={**query, "start": NOW - 15, "end": NOW + 30}
        ).json()

    assert body["data"]["result"][0]["values"] == before["data"]["result"][0]["values"][1:]
    assert body["provenance"]["partial"] is True
    assert body["provenance"]["cached"] == 2
    assert body["warnings"][0].startswith("partial: 2 of 4 steps")
