"""A sample over a threshold is told once, and its end: through Kafka, Spark, the tables, rules and
notifier of `varve up`, the rules service killed in between; and through Debian's Alertmanager.
"""

import itertools
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from varve.client import Producer
from varve.local.broker import free_port
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

pytestmark = [pytest.mark.kafka, pytest.mark.spark, pytest.mark.slow]

RULES = """
groups:
- name: kiln
  interval: 2s
  rules:
  - record: kiln:twice
    expr: kiln_celsius * 2
  - alert: KilnHot
    expr: kiln:twice > 1000
    for: 2s
    labels: {severity: page}
    annotations: {summary: '{{ $labels.kiln }} has {{ $value }}'}
"""
NOTIFY = """
route: {receiver: hook, group_by: [alertname], group_wait: 1s, group_interval: 2s}
receivers:
- name: hook
  webhook_configs:
  - url: %s
"""


class Hook:
    """A receiver of webhooks: (path, status of the alert, when it came), in order."""

    def __init__(self):
        self.got = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = self.rfile.read(int(self.headers["content-length"]))
                for alert in json.loads(body)["alerts"]:
                    outer.got.append((self.path, alert["status"], time.time()))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def statuses(self, path):
        return [status for where, status, _ in self.got if where == path]


class Kiln:
    """Sends its temperature every half a second."""

    def __init__(self, servers):
        self.celsius = 100.0
        self._over = threading.Event()
        self._producer = Producer(servers, stale_markers=False, linger_ms=10)
        threading.Thread(target=self._send, daemon=True).start()

    def _send(self):
        while not self._over.wait(0.5):
            self._producer.gauge("kiln_celsius", self.celsius, {"kiln": "a"})

    def stop(self):
        self._over.set()
        self._producer.close()


@pytest.fixture
def hook():
    hook = Hook()
    yield hook
    hook.server.shutdown()


@pytest.fixture
def alertmanager(tmp_path, hook):
    """The address of Debian's, telling the hook under /debian; None if it is not installed."""
    program = shutil.which("prometheus-alertmanager")
    if program is None:
        yield None
        return
    (tmp_path / "debian.yml").write_text(NOTIFY % f"{hook.url}/debian")
    port = free_port()
    process = subprocess.Popen(
        [
            program,
            f"--config.file={tmp_path / 'debian.yml'}",
            f"--storage.path={tmp_path / 'debian'}",
            f"--web.listen-address=127.0.0.1:{port}",
            "--cluster.listen-address=",
        ],
        stderr=subprocess.DEVNULL,
    )
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)


def test_an_alert_and_its_end_are_told_once_whoever_dies(start, tmp_path, hook, alertmanager):
    (tmp_path / "rules.yml").write_text(RULES)
    (tmp_path / "notify.yml").write_text(NOTIFY % f"{hook.url}/varve")
    notify_port = free_port()
    urls = [f"http://127.0.0.1:{notify_port}", *([alertmanager] if alertmanager else [])]
    up = start(
        tmp_path / "home",
        VARVE_NOTIFY__PORT=str(notify_port),
        VARVE_NOTIFY__CONFIG_FILE=str(tmp_path / "notify.yml"),
        VARVE_RULES__FILES=str(tmp_path / "rules.yml"),
        VARVE_RULES__NOTIFIERS=",".join(urls),
        VARVE_COLLECTOR__ENABLED="false",
        VARVE_MAINTENANCE__ENABLED="false",
        VARVE_FORECASTS__ENABLED="false",
    )
    up.until_ready()
    servers = f"127.0.0.1:{up.ports[0]}"
    kiln = Kiln(servers)
    paths = ["/varve", *(["/debian"] if alertmanager else [])]
    try:
        up.until(lambda: up.ask("kiln:twice"))
        (group,) = up.get("rules")["groups"]
        assert [rule["health"] for rule in group["rules"]] == ["ok", "ok"]
        assert len(up.get("alertmanagers")["activeAlertmanagers"]) == len(urls)

        hot_s, kiln.celsius = time.time(), 600.0
        kill(up)  # before it is seen
        up.until(lambda: all("firing" in hook.statuses(path) for path in paths))
        told_s = hook.got[0][2] - hot_s
        assert [a["labels"]["alertname"] for a in up.get("alerts")["alerts"]] == ["KilnHot"]

        kiln.celsius = 100.0
        kill(up)  # while it ends
        up.until(lambda: all("resolved" in hook.statuses(path) for path in paths))
        newest = up.ask("timestamp(kiln:twice)")[0]["value"][1]
        up.until(lambda: float(up.ask("timestamp(kiln:twice)")[0]["value"][1]) > float(newest) + 6)
    finally:
        kiln.stop()
    points = up.ask("kiln:twice[10m]")[0]["values"]
    up.process.send_signal(signal.SIGTERM)
    assert up.process.wait(120) == 0, up.said()

    assert all(hook.statuses(path) == ["firing", "resolved"] for path in paths), hook.got
    times = [float(at) for at, _ in points]
    assert [b - a for a, b in itertools.pairwise(times)] == [2.0] * (len(times) - 1)
    rows = snapshot(Store(str(up.home / "tables"), {}), "alerts").scan(Bounds()).to_pylist()
    rows = sorted((r for r in rows if r["review"] is None), key=lambda r: r["evaluated_at"])
    assert [row["state"] for row in rows] == ["pending", "firing", "resolved"]
    assert told_s < 120


def kill(up):
    """Ends the rules service at once; it is started again."""
    os.kill(up.component("rules")["pid"], signal.SIGKILL)
