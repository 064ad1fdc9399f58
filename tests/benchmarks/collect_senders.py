"""Senders of every protocol but remote write, whose samples are numbered: what was sent and
acknowledged can be compared with what was stored.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from abc import abstractmethod
from collections.abc import Iterable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import NamedTuple

import httpx
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.sending import SendingThread

SERIES = 20
"""Of a request."""

Sample = tuple[str, int, float]
"""Metric of the series, its number, value: values are never sent twice."""


class HttpSender(SendingThread):
    """Sends requests one after the other, each until it is taken."""

    name = ""
    method = "POST"

    def __init__(self, url: str, pause_s: float) -> None:
        self.acknowledged: set[float] = set()
        """Values of requests that were taken, which all samples of a request have."""
        self.sent: set[float] = set()
        self.refused = 0
        self._url, self._pause_s = url, pause_s
        super().__init__()

    @property
    def metric(self) -> str:
        return f"chaos_{self.name}"

    @abstractmethod
    def request(self, number: int, ts_ms: int) -> tuple[str, dict[str, str], bytes]:
        """Path, headers and body; the value of every sample is `number`."""

    def _run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopping.is_set():
                number += 1
                path, headers, body = self.request(number, int(time.time() * 1000))
                self.sent.add(float(number))
                if self._deliver(client, path, headers, body):
                    self.acknowledged.add(float(number))
                    self._stopping.wait(self._pause_s)

    def _deliver(
        self, client: httpx.Client, path: str, headers: dict[str, str], body: bytes
    ) -> bool:
        while not self._stopping.is_set():
            try:
                answer = client.request(self.method, path, content=body, headers=headers)
            except httpx.HTTPError:
                self._stopping.wait(0.02)
                continue
            if answer.is_success:
                return True
            assert answer.status_code == 503, answer.text
            self.refused += 1
            self._stopping.wait(0.05)
        return False


class Otlp(HttpSender):
    name = "otlp"

    def request(self, number: int, ts_ms: int) -> tuple[str, dict[str, str], bytes]:
        export = ExportMetricsServiceRequest()
        metric = export.resource_metrics.add().scope_metrics.add().metrics.add(name=self.metric)
        for n in range(SERIES):
            point = metric.gauge.data_points.add(time_unix_nano=ts_ms * 1_000_000, as_int=number)
            point.attributes.add(key="n").value.string_value = str(n)
        headers = {"content-type": "application/x-protobuf"}
        return "/v1/metrics", headers, export.SerializeToString()


class Influx(HttpSender):
    name = "influx"

    def request(self, number: int, ts_ms: int) -> tuple[str, dict[str, str], bytes]:
        lines = [f"{self.metric},n={n} value={number} {ts_ms}" for n in range(SERIES)]
        return "/write?precision=ms", {}, "\n".join(lines).encode()


class Json(HttpSender):
    name = "json"

    def request(self, number: int, ts_ms: int) -> tuple[str, dict[str, str], bytes]:
        samples = [
            {
                "metric": self.metric,
                "value": number,
                "timestamp": ts_ms / 1000,
                "tags": {"n": str(n)},
            }
            for n in range(SERIES)
        ]
        return "/api/v1/push", {"content-type": "application/json"}, json.dumps(samples).encode()


class Pushgateway(HttpSender):
    name = "pushgateway"
    method = "PUT"

    def request(self, number: int, ts_ms: int) -> tuple[str, dict[str, str], bytes]:
        lines = [f'{self.metric}{{n="{n}"}} {number}\n' for n in range(SERIES)]
        return "/metrics/job/chaos", {}, "".join(lines).encode()


SENDERS = (Otlp, Influx, Json, Pushgateway)


class StatsdSender(SendingThread):
    """Counts up one counter, a line at a time, by TCP or UDP. Nobody acknowledges that."""

    def __init__(self, port: int, kind: socket.SocketKind, metric: str, pause_s: float) -> None:
        self.metric = metric
        self.sent: list[float] = []
        """When each line was given to the kernel, Unix s."""
        self._line = f"{metric}:1|c\n".encode()
        self._address, self._kind, self._pause_s = ("127.0.0.1", port), kind, pause_s
        super().__init__()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                with socket.socket(socket.AF_INET, self._kind) as sending:
                    sending.connect(self._address)
                    while not self._stopping.wait(self._pause_s):
                        sending.send(self._line)
                        self.sent.append(time.time())
            except OSError:
                self._stopping.wait(0.05)


class ScrapedTarget:
    """A target whose samples have the number of the scrape for a value."""

    metric = "chaos_scrape"

    def __init__(self) -> None:
        self.shown: dict[float, float] = {}
        """By value, when it was given away, Unix s."""
        numbers = iter(range(1, 1 << 31))
        lock = threading.Lock()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(handler) -> None:  # noqa: N805 - self is the target
                with lock:
                    number = next(numbers)
                lines = [f'{self.metric}{{n="{n}"}} {number}\n' for n in range(SERIES)]
                handler.send_response(200)
                handler.send_header("content-type", "text/plain; version=0.0.4")
                handler.end_headers()
                self.shown[float(number)] = time.time()
                handler.wfile.write("".join(lines).encode())

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def config(self) -> str:
        """A prometheus.yml that reads it each second."""
        job = f'{{job_name: chaos, static_configs: [{{targets: ["{self.address}"]}}]}}'
        return f"global: {{scrape_interval: 1s}}\nscrape_configs: [{job}]\n"

    def stop(self) -> None:
        self._server.shutdown()


class Life(NamedTuple):
    """Of a process, in Unix s. born: when its forerunner had ended; ready: when it took lines."""

    born: float
    ready: float
    ended: float


def wrong_counts(
    stored: list[tuple[int, float]], sent: list[float], lives: list[Life], slack_s: float
) -> Iterator[str]:
    """What is wrong with the totals of a counter of StatsD: more counted than was sent, or less
    than was sent so long before an end that a flush must have had it. stored: times in ms and
    totals, which begin anew with each life.
    """
    for life in lives:
        total = total_of(stored, life)
        lines = sum(life.born < at <= life.ended for at in sent)
        if total > lines:
            yield f"{total:.0f} counted of {lines} lines up to {life.ended:.1f}"
        surely = sum(life.ready <= at <= life.ended - slack_s for at in sent)
        if total < surely:
            yield f"{total:.0f} counted of {surely} lines sent {slack_s} s before {life.ended:.1f}"


def total_of(stored: Iterable[tuple[int, float]], life: Life) -> float:
    """What a counter has come to in a life."""
    return max((v for ts, v in stored if life.born < ts / 1000 <= life.ended), default=0.0)
