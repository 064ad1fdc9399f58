"""The part of Kubernetes' API that discovery needs: lists in pages, watches, versions that expire.

Everything is in memory and said as a real server says it: kinds, versions, one line an event.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.gateway.scrape.answering_server import AnsweringServer

KINDS = {
    "pods": ("v1", "Pod"),
    "nodes": ("v1", "Node"),
    "services": ("v1", "Service"),
    "endpoints": ("v1", "Endpoints"),
    "namespaces": ("v1", "Namespace"),
    "endpointslices": ("discovery.k8s.io/v1", "EndpointSlice"),
    "ingresses": ("networking.k8s.io/v1", "Ingress"),
    "replicasets": ("apps/v1", "ReplicaSet"),
    "jobs": ("batch/v1", "Job"),
}
PAGE = 2


class KubernetesServer(AnsweringServer):
    """An API server on loopback; a context manager."""

    def __init__(self) -> None:
        super().__init__()
        self._version = 100
        self._oldest = 0
        self._objects: dict[str, dict[tuple[str, str], dict[str, Any]]] = {k: {} for k in KINDS}
        self._events: list[tuple[int, str, str, dict[str, Any]]] = []
        self._generation = 0
        self.is_away = False
        self.lists: list[str] = []
        self.watches: list[str] = []
        self.authorizations: set[str | None] = set()
        self.url = f"http://{self.address}"

    def release(self) -> None:
        self.drop_watches()

    def put(self, kind: str, content: Mapping[str, Any]) -> None:
        """Adds an object, or changes it."""
        api, name = KINDS[kind]
        found = json.loads(json.dumps(content)) | {"apiVersion": api, "kind": name}
        key = found["metadata"].get("namespace", ""), found["metadata"]["name"]
        with self.changed:
            event = "MODIFIED" if key in self._objects[kind] else "ADDED"
            self._objects[kind][key] = found
            self._note(kind, event, found)

    def delete(self, kind: str, namespace: str, name: str) -> None:
        with self.changed:
            self._note(kind, "DELETED", self._objects[kind].pop((namespace, name)))

    def forget(self) -> None:
        """No version from before now can be watched from: the watches end with 410."""
        with self.changed:
            self._version += 1
            self._oldest = self._version
            self._events.clear()
            self._generation += 1
            self.changed.notify_all()

    def drop_watches(self) -> None:
        """Breaks the connections of all watches."""
        with self.changed:
            self._generation += 1
            self.changed.notify_all()

    def _note(self, kind: str, event: str, found: dict[str, Any]) -> None:
        self._version += 1
        found["metadata"]["resourceVersion"] = str(self._version)
        self._events.append((self._version, kind, event, json.loads(json.dumps(found))))
        self.changed.notify_all()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        url = urlsplit(request.path)
        params = {name: values[-1] for name, values in parse_qs(url.query).items()}
        parts = url.path.strip("/").split("/")
        self.authorizations.add(request.headers.get("authorization"))
        if self.is_away:
            self.say(request, 503, {"kind": "Status", "code": 503, "reason": "away"})
        elif url.path == "/version":
            self.say(request, 200, {"major": "1", "minor": "33", "gitVersion": "v1.33.0"})
        elif parts[-1] in KINDS and params.get("watch") in ("1", "true"):
            self.watches.append(request.path)
            self._watch(request, parts, int(params.get("resourceVersion") or 0))
        elif parts[-1] in KINDS:
            self.lists.append(request.path)
            self._list(request, parts, params)
        else:
            self.say(request, 404, {"kind": "Status", "code": 404})

    def _list(
        self, request: BaseHTTPRequestHandler, parts: list[str], params: dict[str, str]
    ) -> None:
        kind = parts[-1]
        with self.changed:
            found = [o for _, o in sorted(self._objects[kind].items()) if _is_in(parts, o)]
            version = str(self._version)
        begin, size = int(params.get("continue", 0)), len(found)
        if "limit" in params:
            size = min(PAGE, int(params["limit"]))
        meta = {"resourceVersion": version}
        if begin + size < len(found):
            meta["continue"] = str(begin + size)
        api, name = KINDS[kind]
        body = {"kind": f"{name}List", "apiVersion": api, "metadata": meta}
        self.say(request, 200, body | {"items": found[begin : begin + size]})

    def _watch(self, request: BaseHTTPRequestHandler, parts: list[str], version: int) -> None:
        kind = parts[-1]
        request.send_response(200)
        request.send_header("content-type", "application/json")
        request.send_header("connection", "close")
        request.end_headers()
        request.close_connection = True
        with self.changed:
            generation = self._generation
        try:
            while True:
                with self.changed:
                    if version < self._oldest:
                        gone = {"kind": "Status", "apiVersion": "v1", "code": 410}
                        event = {"type": "ERROR", "object": gone | {"reason": "Expired"}}
                        request.wfile.write(json.dumps(event).encode() + b"\n")
                        return
                    if generation != self._generation:
                        return
                    due = [event for event in self._events if event[0] > version]
                    if not due:
                        self.changed.wait()
                        continue
                for at, of, event_type, found in due:
                    version = at
                    if of == kind and _is_in(parts, found):
                        event = {"type": event_type, "object": found}
                        request.wfile.write(json.dumps(event).encode() + b"\n")
                    elif of == kind or version == due[-1][0]:
                        api, name = KINDS[kind]
                        mark = {"apiVersion": api, "kind": name}
                        mark |= {"metadata": {"resourceVersion": str(version)}}
                        event = {"type": "BOOKMARK", "object": mark}
                        request.wfile.write(json.dumps(event).encode() + b"\n")
        except OSError:
            pass  # who watched has gone


def _is_in(parts: list[str], found: Mapping[str, Any]) -> bool:
    """Whether an object is in the namespace that a path names, if it names one."""
    if "namespaces" not in parts[:-1]:
        return True
    return found["metadata"].get("namespace") == parts[parts.index("namespaces") + 1]
