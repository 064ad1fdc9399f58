"""`varve serve gateway` as a process, and senders that remember what was acknowledged."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx

from tests.remote_writing import HEADERS_V1, HEADERS_V2, snappy, write_request, write_request_v2
from tests.sending import SendingThread
from varve.local.broker import free_port

START_S = 120


class GatewayProcess:
    """A gateway on a free port of loopback."""

    def __init__(self, home: Path, servers: str, **settings: str) -> None:
        """settings: of the section gateway, and of others by their whole variable."""
        self.home = home
        self.port = free_port()
        self.environment = os.environ | {
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": servers,
            "VARVE_GATEWAY__PORT": str(self.port),
            **{f"VARVE_GATEWAY__{name.upper()}": value for name, value in settings.items()},
        }
        self.url = f"http://127.0.0.1:{self.port}"
        self._log = home / "gateway.log"
        self._process: subprocess.Popen[bytes] | None = None

    def know_partitions(self, **counts: int) -> None:
        """As if it had met Kafka before."""
        folder = self.home / "gateway-spool"
        folder.mkdir(parents=True, exist_ok=True)
        topics = {name.replace("_", "-"): count for name, count in counts.items()}
        (folder / "partitions.json").write_text(json.dumps(topics))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self, *, verify: ssl.SSLContext | bool = True) -> None:
        """Blocks until it takes requests. verify: how its certificate is checked, with TLS."""
        self.home.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "varve.cli", "serve", "gateway", "--home", str(self.home)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S
        while not self.is_ready(verify=verify):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                raise AssertionError(self._log.read_text()[-2000:])
            time.sleep(0.05)

    def is_ready(self, *, verify: ssl.SSLContext | bool = True) -> bool:
        try:
            return httpx.get(f"{self.url}/-/ready", verify=verify).status_code == 200
        except httpx.HTTPError:
            return False

    def metrics(self) -> dict[str, float]:
        """Sums of each metric of the gateway over its labels."""
        found: dict[str, float] = {}
        for line in httpx.get(f"{self.url}/metrics").text.splitlines():
            if line.startswith("varve_gateway_"):
                name, _, value = line.partition(" ") if "{" not in line else _split(line)
                found[name] = found.get(name, 0.0) + float(value)
        return found

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> int:
        """Ends it in order; its exit status."""
        assert self._process is not None
        self._process.terminate()
        return self._process.wait(60)

    @property
    def log(self) -> str:
        return self._log.read_text()


def _split(line: str) -> tuple[str, str, str]:
    name, _, rest = line.partition("{")
    return name, "", rest.rpartition("} ")[2]


class Sender(SendingThread):
    """Sends requests one after the other, and again as Prometheus does: on 5xx and when the
    connection breaks. Samples are numbered; each series and time is sent with one value.
    """

    def __init__(self, url: str, name: str, version: int, at_ms: int, series: int = 20) -> None:
        self._url = url
        self._name = name
        self._version = version
        self._at_ms = at_ms
        self._series = series
        self.acknowledged: set[tuple[str, int, float]] = set()
        self.sent: set[tuple[str, int, float]] = set()
        self.refused = 0
        super().__init__()

    def _run(self) -> None:
        number = 0
        with httpx.Client(base_url=self._url, timeout=30) as client:
            while not self._stopping.is_set():
                number += 1
                at_ms = self._at_ms + number
                labels = [
                    {"__name__": f"{self._name}_{n % 3}", "n": str(n), "round": str(number // 50)}
                    for n in range(self._series)
                ]
                series = [(one, [(at_ms, float(number))]) for one in labels]
                write = write_request if self._version == 1 else write_request_v2
                samples = {
                    (f"{one['__name__']}/{one['n']}/{one['round']}", at_ms, float(number))
                    for one in labels
                }
                self.sent |= samples
                if self._deliver(client, snappy(write(series))):
                    self.acknowledged |= samples

    def _deliver(self, client: httpx.Client, body: bytes) -> bool:
        """Sends until it is taken; False if it is told to stop before."""
        headers = HEADERS_V1 if self._version == 1 else HEADERS_V2
        while not self._stopping.is_set():
            try:
                answer = client.post("/api/v1/write", content=body, headers=headers)
            except httpx.HTTPError:
                self._stopping.wait(0.02)
                continue
            if answer.status_code == 204:
                return True
            assert answer.status_code == 503, answer.text
            self.refused += 1
            self._stopping.wait(0.02)
        return False
