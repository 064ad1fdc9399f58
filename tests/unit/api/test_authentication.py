"""Who is answered by the query service, and what with."""

from __future__ import annotations

import base64

import bcrypt
import pytest
from starlette.testclient import TestClient

from varve.access.browsers import BrowserRules
from varve.access.credentials import Credentials
from varve.api.app import create_app
from varve.api.endpoints import ENDPOINTS, PAGES
from varve.api.service import Service
from varve.model.clock import ManualClock
from varve.model.errors import NeedsOperator
from varve.query.evaluation import Options

OPEN = {"/-/healthy", "/-/ready", "/", "/graph", "/query", "/alerts", "/anomalies", "/capacity"}
READER, ADMIN = {"Authorization": "Bearer r"}, {"Authorization": "Bearer a"}


def service_of(**more):
    credentials = Credentials({"reader": "r", "ops": "a"}, more.pop("users", {}), ["ops"])
    return Service(
        Options(), ManualClock(), lambda: None, lambda: "no tables", credentials=credentials, **more
    )


def client(service=None):
    return TestClient(create_app(service or service_of()), base_url="http://localhost:9690")


@pytest.mark.parametrize(
    ("method", "path"),
    [(m, e.address.replace("{name:path}", "job")) for e in ENDPOINTS for m in e.methods]
    + [(m, p.path) for p in PAGES for m in p.methods],
)
def test_every_address_but_probes_and_the_page_wants_to_know_who_asks(method, path):
    asked = client()

    status = asked.request(method, path, follow_redirects=False).status_code
    wrong = asked.request(method, path, headers={"Authorization": "Bearer x"})
    known = asked.request(method, path, headers=ADMIN, follow_redirects=False)

    assert (status == 401) == (path not in OPEN)
    assert (wrong.status_code == 401) == (path not in OPEN)
    assert known.status_code != 401
    if path not in OPEN:
        assert wrong.json()["errorType"] == "unauthorized"


def test_a_program_is_told_how_to_log_in_and_a_browser_leaves_that_to_the_page():
    program = client().get("/api/v1/query")
    page = client().get("/api/v1/query", headers={"Sec-Fetch-Mode": "cors"})

    assert "Bearer" in program.headers["www-authenticate"]
    assert (page.status_code, page.headers.get("www-authenticate")) == (401, None)


def test_a_user_logs_in_by_password():
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    asked = client(service_of(users={"ann": hashed}))
    word = base64.b64encode(b"ann:secret").decode()

    assert asked.get("/metrics", headers={"Authorization": f"Basic {word}"}).status_code == 200


def test_credentials_are_read_again_by_who_may_and_stay_if_they_cannot_be():
    found = [NeedsOperator("query.tokens: no"), Credentials({"new": "n"}, {})]

    def reread():
        if isinstance(found[0], NeedsOperator):
            raise found.pop(0)
        return found.pop(0)

    asked = client(service_of(reread_credentials=reread))

    assert asked.post("/-/reload", headers=READER).status_code == 403
    failed = asked.post("/-/reload", headers=ADMIN)
    assert (failed.status_code, "query.tokens: no" in failed.json()["error"]) == (422, True)
    assert asked.get("/metrics", headers=READER).status_code == 200
    assert asked.post("/-/reload", headers=ADMIN).status_code == 200
    assert asked.get("/metrics", headers=READER).status_code == 401
    assert asked.get("/metrics", headers={"Authorization": "Bearer n"}).status_code == 200


def test_a_page_of_an_allowed_origin_may_send_a_token_and_read_that_it_is_wrong():
    origin = {"Origin": "https://grafana.example", "Sec-Fetch-Mode": "cors"}
    asked = client(service_of(browsers=BrowserRules.of([], ["https://grafana.example"])))
    ask = {
        "Access-Control-Request-Method": "GET",
        "Access-Control-Request-Headers": "authorization",
    }

    preflight = asked.options("/api/v1/query", headers=origin | ask)
    refused = asked.get("/api/v1/query", headers=origin)

    assert preflight.status_code == 200
    assert "authorization" in preflight.headers["access-control-allow-headers"].lower()
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://grafana.example"
