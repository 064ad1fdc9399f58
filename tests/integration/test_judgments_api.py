"""Episodes, labels and capacity over HTTP: where there is nothing yet, where nonsense is asked."""

from __future__ import annotations

import pytest
from starlette.testclient import TestClient

from tests.integration.api_service import NOW_MS, SHOP, app_over, service_over
from tests.tables import WrittenTables
from varve.anomaly.labels import labels
from varve.api.app import create_app


@pytest.fixture
def tables(tmp_path):
    tables = WrittenTables(str(tmp_path / "tables"))
    tables.define(SHOP, NOW_MS)
    tables.put([(SHOP[0].series_id, NOW_MS - 1_000, 1.0)], complete_ms=NOW_MS)
    return tables


@pytest.fixture
def client(tables):
    with TestClient(app_over(tables)) as client:
        yield client


@pytest.mark.parametrize("address", ["anomalies/episodes", "capacity"])
def test_where_nothing_was_judged_the_list_is_empty(client, address):
    answer = client.get(f"/api/v1/{address}")
    assert answer.json() == {"status": "success", "data": []} | {
        "provenance": answer.json()["provenance"]
    }


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"episode": "3f9a", "label": "maybe"}, "label is"),
        ({"episode": "3f9a", "label": "real"}, "no episode begins with '3f9a'"),
        ({"label": "real"}, "no episode begins with ''"),
    ],
)
def test_a_label_of_no_episode_or_another_word_is_refused_and_nothing_is_kept(
    client, tables, form, says
):
    answer = client.post("/api/v1/anomalies/label", data=form)
    assert answer.status_code == 400
    assert says in answer.json()["error"]
    assert labels(tables.store) == {}


def test_a_service_over_views_alone_says_that_it_reads_no_such_tables(tables):
    service = service_over(tables)
    service.store = None
    with TestClient(create_app(service)) as client:
        for address in ("anomalies/episodes", "capacity"):
            answer = client.get(f"/api/v1/{address}")
            assert (answer.status_code, answer.json()["errorType"]) == (400, "bad_data")
