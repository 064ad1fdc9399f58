"""Over HTTP: which tier answers, what an answer says of itself, and the same answer later."""

from __future__ import annotations

import base64
import json
from random import Random

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import app_over
from tests.tables import WrittenTables
from tests.unit.query.tier_queries import SPAN_MS, STAGES, T, World, build, series_id
from varve.model.identity import define
from varve.model.window import HOUR_MS
from varve.query import tier_choice
from varve.storage.log import entries, list_versions
from varve.storage.snapshot import snapshot

END = (T + SPAN_MS) / 1000
HOURS = {"start": T / 1000 + 7200, "end": END - 18_000, "step": 3600}
QUERIES = (
    "sum(rate(m[1h]))",
    "avg_over_time(m[2h] offset 7m)",
    "m",
    "quantile_over_time(0.9, m[90m])",
    "stddev_over_time(m[3h])",
    "count_over_time(m[1h])",
)


@pytest.fixture(autouse=True)
def _no_selection_is_cheap(monkeypatch):
    monkeypatch.setattr(tier_choice, "CHEAP_SAMPLES", 0)


@pytest.fixture(scope="module", params=STAGES)
def world(request, tmp_path_factory):
    root = tmp_path_factory.mktemp(request.param.replace(" ", "-"))
    return build(str(root), request.param, Random(request.param))


@pytest.fixture
def client(world):
    with TestClient(app_over(world.tables)) as client:
        yield client


def ask(client, query, **parameters):
    return client.get("/api/v1/query_range", params={"query": query, **HOURS, **parameters})


def body(response, status=200):
    assert response.status_code == status, response.text
    return response.json()


@pytest.mark.parametrize("tier", ["raw", "1m", "5m", "1h"])
def test_a_tier_can_be_asked_for_and_the_answer_says_what_it_rests_on(world, client, tier):
    if world.stage == "expired" and tier == "raw":
        pytest.skip("samples have expired")
    answer = ask(client, "sum(count_over_time(m[1h]))", tier=tier)

    said = body(answer)["provenance"]
    assert said["tier"] == tier
    assert said["selectors"][0]["tiers"][0] == tier
    assert said["selectors"][0]["selector"] == '{__name__="m"}'
    assert said["rows"] == said["selectors"][0]["rows"] > 0 < said["bytes"]
    assert (said["approximate"], said["partial"]) == (False, False)
    assert answer.headers["varve-tier"] == tier
    assert answer.headers["varve-snapshot"] == said["snapshot"]
    assert body(answer)["data"] == body(ask(client, "sum(count_over_time(m[1h]))"))["data"]


def test_ranges_that_wait_for_a_repair_are_named(world, client):
    said = body(ask(client, "sum(count_over_time(m[1h]))", tier="1d"))["provenance"]

    assert bool(said["pending"]) is (world.stage in ("late", "half repaired"))


def test_an_approximate_answer_says_so_in_warnings_too(world, client):
    answer = body(ask(client, "max(max_over_time(m[1h] offset 7s))", tier="1h"))

    said = answer["provenance"]
    assert said["approximate"] is (world.stage == "expired")
    assert ("approximate" in " ".join(answer.get("warnings", []))) is said["approximate"]
    if said["approximate"]:
        assert said["selectors"][0]["approximate_ms"] == 53_000


def test_a_plan_names_the_tier_and_what_was_read(client):
    plan = client.get(
        "/api/v1/explain", params={"query": "sum(rate(m[1h]))", **HOURS, "tier": "1h", "run": "1"}
    ).json()["data"]

    assert any("tier 1h" in line and "actual: 5 series" in line for line in plan)


def test_an_unknown_tier_is_refused(client):
    answer = body(ask(client, "m", tier="2h"), 400)

    assert answer["error"] == 'invalid parameter "tier": "2h" is none of raw, 1m, 5m, 1h, 1d'


def test_an_answer_can_be_had_again_in_every_byte(world):
    with TestClient(app_over(world.tables)) as client:
        before = {query: ask(client, query) for query in QUERIES}
        token = body(before["m"])["provenance"]["snapshot"]
        values = client.get("/api/v1/label/i/values").json()["data"]
    new = define("m", {"i": "new"})
    world.tables.define([new])
    late = [(series_id("c"), T + HOUR_MS * k + 11, 1e9) for k in range(21, 45)]
    world.tables.put([*late, (new.series_id, T + 40 * HOUR_MS, 5.0)], complete_ms=T + SPAN_MS + 1)
    world.roll_up()

    with TestClient(app_over(world.tables)) as client:
        for query, answer in before.items():
            again = ask(client, query, as_of=token)

            assert raw_data(again) == raw_data(answer), query
            assert body(again)["provenance"]["snapshot"] == token
        assert raw_data(ask(client, "m")) != raw_data(before["m"])
        asked = client.get("/api/v1/label/i/values", params={"as_of": token})
        assert asked.json()["data"] == values
        assert "new" in client.get("/api/v1/label/i/values").json()["data"]


def raw_data(response):
    """The bytes of `data`."""
    text = response.text
    return text[text.index('"data":') : text.index(',"provenance"')].partition(',"warnings"')[0]


def test_a_time_names_what_was_stored_by_then(world, client):
    store = world.tables.store
    stamped = max(
        next(iter(entries(store, name, v - 1, v))).timestamp_ms
        for name in ("samples", "series", "rollup_1m", "rollup_5m", "rollup_1h", "rollup_1d")
        for v in [max(list_versions(store, name))]
    )

    now = body(ask(client, "m", as_of=stamped / 1000))
    never = body(ask(client, "m", as_of=1_000_000), 410)

    assert raw_data(ask(client, "m")) == raw_data(ask(client, "m", as_of=stamped / 1000))
    assert now["provenance"]["snapshot"] == body(ask(client, "m"))["provenance"]["snapshot"]
    assert never["errorType"] == "gone"
    assert "the log of" in never["error"]


def test_past_the_horizon_a_snapshot_is_gone_and_the_error_names_it(world, client, monkeypatch):
    token = body(ask(client, "m"))["provenance"]["snapshot"]
    versions = dict(json.loads(_decoded(token)))
    ahead = _encoded(versions | {"samples": versions["samples"] + 1_000})

    answer = body(ask(client, "m", as_of=ahead), 410)

    assert answer["errorType"] == "gone"
    assert "its log has versions 0 (of" in answer["error"]


@pytest.mark.parametrize("token", ["x", "eyJhIjoxfQ", "1e999", "@", "bnVsbA"])
def test_what_is_no_token_is_refused(client, token):
    for name in ("as_of", "at_least"):
        assert body(ask(client, "m", **{name: token}), 400)["errorType"] == "bad_data"


def test_at_least_waits_for_what_another_has_written(world, client):
    before = body(ask(client, "m"))["provenance"]["snapshot"]
    world.tables.put([(series_id("k"), T + 49 * HOUR_MS + 1, 77.0)])
    version = snapshot(world.tables.store, "samples").version
    wanted = _encoded(dict(json.loads(_decoded(before))) | {"samples": version})

    answer = body(
        client.get(
            "/api/v1/query",
            params={"query": 'm{i="k"}', "time": T / 1000 + 49 * 3600 + 1, "at_least": wanted},
        )
    )
    never = _encoded(dict(json.loads(_decoded(before))) | {"samples": version + 1})
    late = ask(client, "m", at_least=never, timeout="300ms")

    assert answer["data"]["result"][0]["value"][1] == "77"
    assert body(late, 503)["errorType"] == "timeout"


def _decoded(token):
    return base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))


def _encoded(versions):
    return base64.urlsafe_b64encode(json.dumps(versions).encode()).decode().rstrip("=")


def test_windows_that_were_never_closed_for_want_of_samples_make_an_answer_partial(tmp_path):
    world = World(WrittenTables(str(tmp_path)), "refused", {})
    world.tables.define([define("m", {"i": "k"})])
    world.put({"k": [(T + k * 60_000, 1.0) for k in range(1, 600)]}, complete_ms=T + 10 * HOUR_MS)
    world.expire(T + 3 * HOUR_MS + 1)
    world.roll_up()
    with TestClient(app_over(world.tables)) as client:
        times = {"start": T / 1000 + 3600, "end": T / 1000 + 9 * 3600, "tier": "1h"}

        early = body(ask(client, "sum(count_over_time(m[1h]))", **times))
        late = body(
            ask(client, "sum(count_over_time(m[1h]))", **times | {"start": T / 1000 + 6 * 3600})
        )

    assert early["provenance"]["partial"] is True
    assert "have expired" in " ".join(early["warnings"])
    assert next(t for t, _ in early["data"]["result"][0]["values"]) == T / 1000 + 4 * 3600
    assert late["provenance"]["partial"] is False
    assert "warnings" not in late
