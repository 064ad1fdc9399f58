"""Varve and a real Prometheus scrape the same targets by one prometheus.yml: same series, same
values, same ends. Without Kafka: what Varve read is in its spool.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import itemgetter

import httpx
import pytest

from tests.integration.gateway.spooled import spooled_samples
from varve.gateway.exposition.formats import PROTOBUF
from varve.gateway.protobuf import delimited_field, write_varint
from varve.local.broker import free_port

CONFIG = """
global:
  scrape_interval: 1s
scrape_configs:
  - job_name: text
    metrics_path: /text
    static_configs: [{{targets: ["{target}"], labels: {{job_label: x}}}}]
    metric_relabel_configs:
    - {{source_labels: [__name__], regex: dropped.*, action: drop}}
    - {{regex: secret, action: labeldrop}}
  - job_name: open
    metrics_path: /open
    honor_labels: true
    basic_auth: {{username: u, password: p}}
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: open_before
    metrics_path: /open_before
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: messages
    metrics_path: /messages
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: failing
    metrics_path: /failing
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: limited
    metrics_path: /text
    sample_limit: 2
    params: {{module: [a, b]}}
    static_configs: [{{targets: ["{target}"]}}]
  - job_name: file
    metrics_path: /file
    file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]
    relabel_configs:
    - {{source_labels: [__meta_filepath], regex: '.*/(.*)', target_label: source}}
"""
PATHS = (
    "/text", "/open", "/open_before", "/messages", "/failing", "/text?module=a&module=b",
)  # fmt: skip
ROUNDS = 3
ENDS = "ends"
START_S = 90

pytestmark = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="no prometheus on PATH (Debian: prometheus)"
)


def messages(n):
    """Families of protobuf, of every kind that is made of plain samples."""

    def double(field, value):
        return bytes([field << 3 | 1]) + struct.pack("<d", value)

    def number(field, value):
        return bytes([field << 3]) + write_varint(value)

    label = delimited_field(1, delimited_field(1, b"a") + delimited_field(2, "ü\n".encode()))
    bounds = [(0.5, n), (math.inf, 2 * n)]
    buckets = [delimited_field(3, number(1, c) + double(2, le)) for le, c in bounds]
    quantile = delimited_field(3, double(1, 0.9) + double(2, n + 0.5))
    families = [
        (b"m_total", 0, 3, double(1, n)),
        (b"m_gauge", 1, 2, double(1, -n)),
        (b"m_summary", 2, 4, number(1, n) + double(2, n + 0.25) + quantile),
        (b"m_untyped", 3, 5, double(1, math.nan)),
        (b"m_histogram", 4, 7, number(1, 2 * n) + double(2, n / 3) + b"".join(buckets)),
    ]
    found = b""
    for name, kind, field, value in families:
        metric = delimited_field(4, label + delimited_field(field, value))
        content = delimited_field(1, name) + number(3, kind) + metric
        found += write_varint(len(content)) + content
    return found


def body(path, n):
    """What a target says the n-th time that a scraper asks."""
    if path == "/open":
        text = f'# TYPE o counter\no_total{{job="own"}} {n}\n# EOF\n'
        return text, "application/openmetrics-text; version=1.0.0"
    if path == "/open_before":
        text = (
            f'# TYPE b summary\nb_count {n}\nb_sum {n}.25\nb{{quantile="0.5"}} {n}\n'
            f'# TYPE s stateset\ns{{s="on"}} {n % 2}\n# TYPE i info\ni_info{{v="1"}} 1\n# EOF\n'
        )
        return text, "application/openmetrics-text; version=0.0.1; charset=utf-8"
    if path == "/messages":
        return messages(n), f"{PROTOBUF};proto=io.prometheus.client.MetricFamily;encoding=delimited"
    gone = "gone 1\n" if n <= 2 else ""
    text = (
        f'# TYPE h histogram\nh_bucket{{le="1.5"}} {n}\nh_bucket{{le="+Inf"}} {n}\nh_count {n}\n'
        f'h_sum {n}.5\nvalue{{job="exposed",secret="s",a="ü\\n"}} {n}\ndropped_me 1\n{gone}'
        f"nan_value NaN\n"
    )
    return text, "text/plain; version=0.0.4"


class Targets:
    """A server that counts the requests of each scraper."""

    def __init__(self):
        self.counts = Counter()
        self.headers: dict[tuple[str, str], dict[str, str]] = {}
        counts, seen = self.counts, self.headers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                agent = self.headers["user-agent"].partition("/")[0]
                path = self.path.partition("?")[0]
                counts[agent, self.path] += 1
                seen[agent, self.path] = {k.title(): v for k, v in self.headers.items()}
                n = counts[agent, self.path]
                failed = path == "/failing" and n > 2
                if path == "/open" and not self.headers.get("authorization"):
                    failed = True
                text, kind = body(path, n)
                self.send_response(500 if failed else 200)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(text if isinstance(text, bytes) else text.encode())

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def asked(self, *paths):
        """How often each scraper has asked for each path at least."""
        return min(self.counts[agent, path] for agent in ("varve", "Prometheus") for path in paths)


def wait_for(condition, what):
    deadline = time.monotonic() + START_S
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


def answers(url):
    try:
        return httpx.get(url).status_code == 200
    except httpx.HTTPError:
        return False


def test_varve_and_prometheus_read_the_same(tmp_path):
    targets = Targets()
    config = tmp_path / "prometheus.yml"
    config.write_text(CONFIG.format(target=targets.address))
    groups = tmp_path / "targets.json"
    groups.write_text(json.dumps([{"targets": [targets.address], "labels": {"env": "t"}}]))
    spool = tmp_path / "scrape-spool"
    spool.mkdir()
    (spool / "partitions.json").write_text(json.dumps({"raw-metrics": 4}))
    own_port, port = free_port(), free_port()
    with (tmp_path / "log").open("wb") as log:
        varve = subprocess.Popen(
            [
                *(sys.executable, "-m", "varve.cli", "serve", "scrape"),
                *("--home", str(tmp_path), f"--config.file={config}"),
            ],
            env=os.environ
            | {
                "VARVE_KAFKA__BOOTSTRAP_SERVERS": "127.0.0.1:9",
                "VARVE_SCRAPE__PORT": str(own_port),
            },
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        prometheus = subprocess.Popen(
            [
                *("prometheus", f"--config.file={config}"),
                f"--storage.tsdb.path={tmp_path / 'data'}",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        told = (tmp_path / "log").read_text
        own, theirs = f"http://127.0.0.1:{own_port}", f"http://127.0.0.1:{port}"
        wait_for(lambda: answers(f"{own}/-/ready"), told)
        wait_for(lambda: answers(f"{theirs}/-/ready"), told)
        wait_for(lambda: targets.asked(*PATHS, "/file") >= ROUNDS, told)
        groups.write_text("[]")
        wait_for(lambda: "file" not in active_jobs(own) | active_jobs(theirs), told)
        rounds = targets.asked(*PATHS)
        wait_for(lambda: targets.asked(*PATHS) >= rounds + 5, told)
        ours_active, theirs_active = active(own), active(theirs)
        result = httpx.get(f"{theirs}/api/v1/query", params={"query": '{job!=""}[1h]'}).json()
        now = httpx.get(f"{theirs}/api/v1/query", params={"query": '{job!=""}'}).json()
    finally:
        for process in (varve, prometheus):
            process.send_signal(signal.SIGTERM)
            process.wait(60)

    ours = {}
    for labels, _, value in sorted(spooled_samples(tmp_path, "scrape-spool"), key=itemgetter(1)):
        ours.setdefault(labels, []).append(ENDS if value is None else shown(value))
    expected = {
        tuple(sorted(series["metric"].items())): [v for _, v in series["values"]]
        for series in result["data"]["result"]
    }
    assert set(ours) == set(expected)
    names = {dict(labels)["__name__"] for labels in expected}
    assert names >= {
        "o_total",
        "b_sum",
        "i_info",
        "s",
        "m_total",
        "m_summary",
        "m_histogram_bucket",
    }
    for labels, values in expected.items():
        if "duration" not in dict(labels)["__name__"]:
            own = [value for value in ours[labels] if value != ENDS]
            known = min(len(values), len(own))
            assert known
            assert own[:known] == [shown(float(v)) for v in values[:known]], labels
    still_there = {tuple(sorted(s["metric"].items())) for s in now["data"]["result"]}
    ended = {labels for labels, values in ours.items() if values[-1] == ENDS}
    assert ended == set(expected) - still_there
    assert {dict(labels)["__name__"] for labels in ended} >= {"gone", "up", "h_sum"}
    assert ours_active == theirs_active
    for path in (*PATHS, "/file"):
        sent, wanted = targets.headers["varve", path], targets.headers["Prometheus", path]
        for name in ("Authorization", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds"):
            assert sent.get(name) == wanted.get(name), name


def shown(value):
    return "NaN" if math.isnan(value) else value


def active(url):
    found = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
    return {
        (t["scrapePool"], t["scrapeUrl"], tuple(sorted(t["labels"].items())), t["health"])
        for t in found
    }


def active_jobs(url):
    return {target[0] for target in active(url)}
