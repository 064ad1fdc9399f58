"""The page of targets runs its own script only, and asks for a login where there is one."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import re

import httpx
import pytest

from varve.access.credentials import Credentials
from varve.gateway.scrape.http_app import ScrapeApp


class About:
    pools = {}  # noqa: RUF012 - never written

    def why_not_ready(self):
        return ""

    def page(self, _accept):
        return b"", "text/plain"


def get(path, credentials=None, **headers):
    async def answer():
        app = ScrapeApp(About(), credentials or Credentials({}, {}))
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get(f"http://scrape{path}", headers=headers)

    return asyncio.run(answer())


@pytest.mark.parametrize("path", ["/", "/targets"])
def test_the_page_allows_its_own_script_alone(path):
    answer = get(path)

    script = re.search(r"<script>(.*)</script>", answer.text, re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in answer.headers["content-security-policy"]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["content-type"].startswith("text/html")


def test_the_page_wants_the_login_that_the_api_wants():
    credentials = Credentials({"me": "secret"}, {})

    assert get("/targets", credentials).status_code == 401
    assert get("/targets", credentials, authorization="Bearer secret").status_code == 200
