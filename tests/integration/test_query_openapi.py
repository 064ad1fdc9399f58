"""Requests made from the OpenAPI document, and some that it does not allow: each is answered as the
document says, and none meets an error of ours.
"""

from __future__ import annotations

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.integration.api_service import fill, service_over
from tests.tables import WrittenTables
from varve.api.app import create_app
from varve.api.endpoints import ENDPOINTS
from varve.api.openapi import names_of


@schemathesis.serializer("application/x-protobuf")
def as_it_is(_, value):
    return value


REQUESTS = 40
"""To each address, of each kind."""

OPERATIONS = [
    (f"{method} {endpoint.address.replace(':path', '')}", mode)
    for endpoint in ENDPOINTS
    for method in endpoint.methods
    for mode in GenerationMode
    # Some take nothing that could be wrong.
    if names_of(endpoint) or mode.is_positive
]


@pytest.fixture(scope="module")
def operations(tmp_path_factory):
    tables = WrittenTables(str(tmp_path_factory.mktemp("tables")))
    fill(tables, days=0.1)
    app = create_app(service_over(tables))
    document = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app)
    return {one.ok().label: one.ok() for one in document.get_all_operations()}


@pytest.mark.parametrize(("label", "mode"), OPERATIONS)
def test_no_request_is_an_error_of_ours(operations, label, mode):
    @settings(
        max_examples=REQUESTS,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operations[label].as_strategy(generation_mode=mode))
    def answered(case):
        response = case.call(headers={"host": "testserver"})
        case.validate_response(
            response, checks=[content_type_conformance, response_schema_conformance]
        )
        # 503 is one of a deadline that a request may bring.
        assert response.status_code in {200, 400, 404, 405, 422, 503}, response.text
        if response.status_code == 503:
            assert response.json()["errorType"] == "timeout"

    answered()
