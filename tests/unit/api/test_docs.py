"""docs/query.md says what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from varve.api.endpoints import ENDPOINTS, PAGES

TEXT = (Path(__file__).parents[3] / "docs" / "query.md").read_text()


@pytest.mark.parametrize("endpoint", ENDPOINTS, ids=lambda endpoint: endpoint.path)
def test_every_endpoint_is_documented_with_what_it_takes_and_does(endpoint):
    methods = ", ".join(endpoint.methods)
    path = endpoint.address.replace("{name:path}", "NAME")

    row = f"| {methods} | {path} | {endpoint.parameters} | {endpoint.help} |"

    assert row.replace("|  |", "| |") in TEXT


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.path)
def test_every_other_address_is_documented(page):
    assert f"| {', '.join(page.methods)} | {page.path} | | {page.help} |" in TEXT
