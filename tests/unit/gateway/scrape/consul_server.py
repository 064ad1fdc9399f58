"""The part of Consul's API that discovery needs, with blocking queries."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.unit.gateway.scrape.answering_server import AnsweringServer


class ConsulServer(AnsweringServer):
    """An agent on loopback; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._index = 10
        self._services: dict[str, list[dict[str, Any]]] = {}
        self._ends = False
        self.is_away = False
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()

    def release(self) -> None:
        with self.changed:
            self._ends = True
            self.changed.notify_all()

    def put(self, name: str, *entries: Mapping[str, Any]) -> None:
        """A service and its instances; without any the service is gone."""
        with self.changed:
            self._index += 1
            if entries:
                self._services[name] = [dict(entry) for entry in entries]
            else:
                self._services.pop(name)
            self.changed.notify_all()

    def begin_anew(self) -> None:
        """As a server whose state was restored from elsewhere."""
        with self.changed:
            self._index = 3
            self.changed.notify_all()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        params = parse_qs(url.query, keep_blank_values=True)
        self.asked.append(request.path)
        self.tokens.add(request.headers.get("x-consul-token"))
        with self.changed:
            waited_for = int(params.get("index", ["0"])[0])
            while waited_for and self._index == waited_for and not self._ends:
                self.changed.wait(30)
            index = self._index
            services = json.loads(json.dumps(self._services))
        if self.is_away:
            self.say(request, 500, "No cluster leader", x_consul_index=str(index))
        elif url.path == "/v1/agent/self":
            self.say(request, 200, {"Config": {"Datacenter": "dc9"}}, x_consul_index=str(index))
        elif url.path == "/v1/catalog/services":
            tags = {
                name: sorted({tag for e in entries for tag in e["Service"]["Tags"] or ()})
                for name, entries in services.items()
            }
            self.say(request, 200, tags, x_consul_index=str(index))
        elif url.path.startswith("/v1/health/service/"):
            found = services.get(unquote(url.path.rsplit("/", 1)[1]), [])
            wanted = set(params.get("tag", ()))
            found = [e for e in found if wanted <= set(e["Service"]["Tags"] or ())]
            self.say(request, 200, found, x_consul_index=str(index))
        else:
            self.say(request, 404, "", x_consul_index=str(index))


def instance(number: int, *, tags: list[str] | None = None, **more: Any) -> dict[str, Any]:
    """An instance of a service as /v1/health/service tells of it."""
    return {
        "Node": {
            "Node": f"node-{number}",
            "Address": f"10.0.0.{number}",
            "Datacenter": "dc9",
            "TaggedAddresses": {"lan": f"10.0.0.{number}", "wan-v4": f"1.0.0.{number}"},
            "Meta": {"rack-id": "r1"},
        },
        "Service": {
            "ID": f"web-{number}",
            "Service": "web",
            "Tags": tags,
            "Address": more.get("address", ""),
            "Port": 8000 + number,
            "Meta": {"version.x": "2"},
        },
        "Checks": [
            {"CheckID": f"c{n}", "Status": status}
            for n, status in enumerate(more.get("checks", ["passing"]))
        ],
    }
