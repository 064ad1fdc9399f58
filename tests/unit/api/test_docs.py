"""docs/query.md says what there is."""

from __future__ import annotations

from pathlib import Path

from varve.api.app import Service, create_app
from varve.api.queries import Options
from varve.model.clock import ManualClock
from varve.promql.evaluation.limits import Limits

TEXT = (Path(__file__).parents[3] / "docs" / "query.md").read_text()


def test_every_route_of_the_api_is_documented():
    service = Service(Options(Limits(), 1), ManualClock(), lambda: None, lambda: "")

    paths = [getattr(route, "path", "") for route in create_app(service).routes]

    wanted = [p.replace("{name:path}", "NAME") for p in paths if p.startswith(("/api", "/-", "/m"))]
    assert wanted
    assert [path for path in wanted if path not in TEXT] == []
