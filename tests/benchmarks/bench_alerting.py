"""How long it takes from a sample to the message that tells of it, by the producer's clock and the
receiver's: through Kafka, Spark, Delta, the rules service and the notifier of `varve up`.

Each probe is a series of its own that goes over its threshold at a time of its own.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import json
import random
import signal
import sys
import tempfile
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psutil

from tests.benchmarks.firehose import Firehose, series_of
from tests.integration.local.up_process import Up
from varve.client import Producer

RULES = """
groups:
- name: probes
  interval: {interval}s
  rules:
  - alert: ProbeHigh
    expr: probe > 0.5
"""
NOTIFY = """
route:
  receiver: hook
  group_by: [probe]
  group_wait: {wait}s
  group_interval: {interval}s
receivers: [{{name: hook, webhook_configs: [{{url: '{url}'}}]}}]
"""
_SETTLE_S = 15.0


def main() -> int:
    args = arguments()
    told: dict[str, list[float]] = {}
    server = hook(told)
    url = f"http://127.0.0.1:{server.server_port}/"
    with tempfile.TemporaryDirectory(prefix="bench-alerting-") as folder:
        root = Path(folder)
        rules, notify = root / "rules.yml", root / "notify.yml"
        rules.write_text(RULES.format(interval=args.interval))
        notify.write_text(NOTIFY.format(wait=args.group_wait, interval=args.group_wait, url=url))
        up = Up(
            root / "home",
            VARVE_RULES__FILES=str(rules),
            VARVE_NOTIFY__CONFIG_FILE=str(notify),
            VARVE_COLLECTOR__ENABLED="false",
            VARVE_FORECASTS__ENABLED="false",
        )
        try:
            up.until_ready()
            print("ready; sending", flush=True)
            before, began = used(up), time.monotonic()
            sent = measure(up, args)
            wait_for(told, sent, args.deadline)
            lasted = time.monotonic() - began
            for name, (cpu_s, rss) in used(up).items():
                share = (cpu_s - before[name][0]) / lasted
                print(f"{name}: {100 * share:.1f} % of a core, {rss >> 20} MiB")
        finally:
            up.process.send_signal(signal.SIGTERM)
            try:
                up.process.wait(60)
            finally:
                up.end()
                server.shutdown()
    return report(args, sent, told)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--probes", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60, help="over which they are spread")
    parser.add_argument("--rate", type=int, default=20_000, help="samples/s of load beside them")
    parser.add_argument("--interval", type=int, default=5, help="of the rules, seconds")
    parser.add_argument("--group-wait", type=int, default=1, help="seconds")
    parser.add_argument("--aim", type=float, default=15, help="seconds that 99 %% may take")
    parser.add_argument("--deadline", type=float, default=60, help="seconds to wait at the end")
    return parser.parse_args()


def used(up: Up) -> dict[str, tuple[float, int]]:
    """CPU seconds and resident bytes of rules and notifier so far."""
    found = {}
    for name in ("rules", "notify"):
        process = psutil.Process(up.component(name)["pid"])
        times = process.cpu_times()
        found[name] = times.user + times.system, process.memory_info().rss
    return found


def hook(told: dict[str, list[float]]) -> ThreadingHTTPServer:
    """Notes when each probe was told of; the server runs already."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            now_s = time.time()
            message = json.loads(self.rfile.read(int(self.headers["content-length"])))
            for alert in message["alerts"]:
                if alert["status"] == "firing":
                    told.setdefault(alert["labels"]["probe"], []).append(now_s)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def measure(up: Up, args: argparse.Namespace) -> dict[str, float]:
    """Sends load and probes; when each probe's sample was made, Unix seconds."""
    servers = f"127.0.0.1:{up.ports[0]}"
    over = threading.Event()
    load = threading.Thread(target=send_load, args=(servers, args.rate, over))
    rng = random.Random(1)
    high: dict[str, float] = {}
    load.start()
    try:
        with Producer(servers, linger_ms=10, stale_markers=False) as producer:
            begin = time.monotonic() + _SETTLE_S
            due = sorted((begin + rng.random() * args.seconds, f"p{n}") for n in range(args.probes))
            while time.monotonic() < begin:
                for _, name in due:
                    producer.gauge("probe", 0.0, {"probe": name})
                time.sleep(1)
            for at, name in due:
                time.sleep(max(0.0, at - time.monotonic()))
                high[name] = time.time()
                producer.gauge("probe", 1.0, {"probe": name}, ts_ms=int(high[name] * 1000))
    finally:
        over.set()
        load.join()
    return high


def send_load(servers: str, rate: int, over: threading.Event) -> None:
    """`rate` samples a second of 20 metrics, until it is over."""
    if not rate:
        return
    hose = Firehose(servers, "raw-metrics", series_of(20, 1_000))
    began, sent = time.monotonic(), 0
    try:
        while not over.is_set():
            sent += hose.send(int(time.time() * 1000))
            over.wait(max(0.0, sent / rate - (time.monotonic() - began)))
    finally:
        hose.close()


def wait_for(told: dict[str, list[float]], sent: dict[str, float], deadline_s: float) -> None:
    deadline = time.monotonic() + deadline_s
    while len(told) < len(sent) and time.monotonic() < deadline:
        time.sleep(0.2)


def report(args: argparse.Namespace, sent: dict[str, float], told: dict[str, list[float]]) -> int:
    ages = sorted(told[name][0] - at for name, at in sent.items() if name in told)
    twice = [name for name, times in told.items() if len(times) > 1]
    print(
        f"{args.rate:,} samples/s, interval {args.interval} s, group_wait {args.group_wait} s,"
        f" {len(sent)} alerts: {len(sent) - len(ages)} not told, {len(twice)} told twice"
    )
    if not ages:
        return 1
    p99 = ages[min(len(ages) - 1, int(len(ages) * 0.99))]
    print(f"p50 {ages[len(ages) // 2]:.1f} s   p99 {p99:.1f} s   max {ages[-1]:.1f} s")
    return 0 if p99 <= args.aim and len(ages) == len(sent) and not twice else 1


if __name__ == "__main__":
    sys.exit(main())
