"""The part of Consul's API that discovery needs, with blocking queries."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit


class ConsulServer:
    """An agent on loopback; a context manager."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._index = 10
        self._services: dict[str, list[dict[str, Any]]] = {}
        self._ends = False
        self.is_away = False
        self.asked: list[str] = []
        self.tokens: set[str | None] = set()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, *_: object) -> None: ...

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._http.daemon_threads = True
        self.address = f"127.0.0.1:{self._http.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._http.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._ends = True
            self._changed.notify_all()
        self._http.shutdown()
        self._http.server_close()

    def put(self, name: str, *entries: Mapping[str, Any]) -> None:
        """A service and its instances; without any the service is gone."""
        with self._changed:
            self._index += 1
            if entries:
                self._services[name] = [dict(entry) for entry in entries]
            else:
                self._services.pop(name)
            self._changed.notify_all()

    def begin_anew(self) -> None:
        """As a server whose state was restored from elsewhere."""
        with self._changed:
            self._index = 3
            self._changed.notify_all()

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        params = parse_qs(url.query, keep_blank_values=True)
        self.asked.append(request.path)
        self.tokens.add(request.headers.get("x-consul-token"))
        with self._changed:
            waited_for = int(params.get("index", ["0"])[0])
            while waited_for and self._index == waited_for and not self._ends:
                self._changed.wait(30)
            index = self._index
            services = json.loads(json.dumps(self._services))
        if self.is_away:
            self._say(request, 500, "No cluster leader", index)
        elif url.path == "/v1/agent/self":
            self._say(request, 200, {"Config": {"Datacenter": "dc9"}}, index)
        elif url.path == "/v1/catalog/services":
            tags = {
                name: sorted({tag for e in entries for tag in e["Service"]["Tags"] or ()})
                for name, entries in services.items()
            }
            self._say(request, 200, tags, index)
        elif url.path.startswith("/v1/health/service/"):
            found = services.get(unquote(url.path.rsplit("/", 1)[1]), [])
            wanted = set(params.get("tag", ()))
            found = [e for e in found if wanted <= set(e["Service"]["Tags"] or ())]
            self._say(request, 200, found, index)
        else:
            self._say(request, 404, "", index)

    @staticmethod
    def _say(request: BaseHTTPRequestHandler, status: int, body: Any, index: int) -> None:
        content = json.dumps(body).encode()
        request.send_response(status)
        request.send_header("content-type", "application/json")
        request.send_header("content-length", str(len(content)))
        request.send_header("x-consul-index", str(index))
        request.end_headers()
        request.wfile.write(content)


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
