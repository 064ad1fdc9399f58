"""A storm of alerts through the notifier over HTTP: who is told when, and what it costs.

    python tests/benchmarks/storm_notify.py [--alerts 100000] [--beside]

Alerts of 100 a group begin within 50 s, are sent again a minute later, when a third of them ends.
Prints how long requests took, when groups were told after their first alert, CPU seconds and
memory; with --beside for Debian's Alertmanager, too. Exits 1 if a group was not told within
group_wait + 10 s, an end was not told, or 1 % of requests took a second.
"""

# ruff: noqa: T201 - what it prints is its output

import argparse
import asyncio
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import psutil

from varve.local.broker import free_port

GROUP = 100
BATCH = 64
"""Alerts a request, as Prometheus sends them."""
SPREAD_S = 50.0
ROUND_S = 60.0
GROUP_WAIT_S = 30
LATE_S = 10.0

COMMANDS = {
    "varve": [sys.executable, "-m", "varve.cli", "serve", "notify"],
    "alertmanager": ["prometheus-alertmanager", "--cluster.listen-address="],
}


class Receiver:
    """Takes webhooks, and notes when."""

    def __init__(self) -> None:
        self.first_s: dict[str, float] = {}
        self.ended: set[str] = set()
        self.messages = 0

    async def start(self) -> str:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}/"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Cancelled at the end: asyncio would log that as a fault of this callback.
        ends = asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        with contextlib.suppress(*ends):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length: ")[2].split(b"\r", 1)[0])
                self._note(json.loads(await reader.readexactly(length)))
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        writer.close()

    def _note(self, message: dict) -> None:
        self.messages += 1
        self.first_s.setdefault(message["groupLabels"]["alertname"], time.time())
        self.ended |= {
            alert["labels"]["instance"]
            for alert in message["alerts"]
            if alert["status"] == "resolved"
        }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--alerts", type=int, default=100_000)
    parser.add_argument("--beside", action="store_true", help="Debian's Alertmanager, too")
    args = parser.parse_args()
    names = ["varve", *(["alertmanager"] if args.beside else [])]
    results = {name: asyncio.run(storm(name, args.alerts)) for name in names}
    return 0 if results["varve"] else 1


async def storm(name: str, alerts: int) -> bool:
    """Runs the storm against one notifier; whether it kept the bounds."""
    receiver = Receiver()
    url = await receiver.start()
    folder = Path(tempfile.mkdtemp())
    route = f"receiver: team, group_by: [alertname], group_wait: {GROUP_WAIT_S}s"
    (folder / "am.yml").write_text(
        f"route: {{{route}, group_interval: 30s}}\n"
        f"receivers: [{{name: team, webhook_configs: [{{url: '{url}'}}]}}]\n"
    )
    address = f"127.0.0.1:{free_port()}"
    process = await asyncio.create_subprocess_exec(
        *COMMANDS[name],
        f"--config.file={folder / 'am.yml'}",
        f"--storage.path={folder / 'data'}",
        f"--web.listen-address={address}",
        stderr=subprocess.DEVNULL,
    )
    try:
        async with httpx.AsyncClient(base_url=f"http://{address}", timeout=60) as client:
            await ready(client)
            began_s = time.time()
            took_s = [*await send_all(client, alerts, began_s, ended=False)]
            await asyncio.sleep(max(0.0, began_s + ROUND_S - time.time()))
            took_s += await send_all(client, alerts, began_s, ended=True)
            await asyncio.sleep(30 + LATE_S)
        usage = psutil.Process(process.pid)
        return report(name, alerts, began_s, took_s, receiver, usage)
    finally:
        process.terminate()
        await process.wait()
        shutil.rmtree(folder)


async def ready(client: httpx.AsyncClient) -> None:
    async with asyncio.timeout(60):
        while True:
            with contextlib.suppress(httpx.TransportError):
                if (await client.get("/-/ready")).is_success:
                    return
            await asyncio.sleep(0.1)


async def send_all(
    client: httpx.AsyncClient, alerts: int, began_s: float, *, ended: bool
) -> list[float]:
    """Sends all alerts, spread over SPREAD_S; how long each request took. ended: a third has."""
    round_s, took_s = time.time(), []
    for first in range(0, alerts, BATCH):
        numbers = range(first, min(first + BATCH, alerts))
        body = [alert(i, began_s, ended=ended and i % 3 == 0) for i in numbers]
        sent_s = time.perf_counter()
        (await client.post("/api/v2/alerts", json=body)).raise_for_status()
        took_s.append(time.perf_counter() - sent_s)
        await asyncio.sleep(max(0.0, round_s + first / alerts * SPREAD_S - time.time()))
    return took_s


def alert(number: int, began_s: float, *, ended: bool) -> dict:
    ends_s = time.time() - 1 if ended else time.time() + 240
    return {
        "labels": {
            "alertname": f"A{number // GROUP}",
            "instance": f"host{number}:9100",
            "job": "node",
            "severity": "warning",
        },
        "annotations": {"summary": f"host{number} does not answer"},
        "startsAt": rfc3339(began_s),
        "endsAt": rfc3339(ends_s),
        "generatorURL": "http://prometheus/graph?g0.expr=up",
    }


def rfc3339(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at_s))


def report(
    name: str,
    alerts: int,
    began_s: float,
    took_s: list[float],
    receiver: Receiver,
    usage: psutil.Process,
) -> bool:
    groups = alerts // GROUP
    # An alert that began over group_wait ago opens its group at once: counted from its sending.
    delays_s = [
        at_s - began_s - int(group[1:]) / groups * SPREAD_S
        for group, at_s in receiver.first_s.items()
    ]
    ordered = sorted(took_s)
    p99_s = ordered[int(len(ordered) * 0.99)]
    latest_s = max(delays_s, default=float("inf"))
    cpu = usage.cpu_times()
    print(
        f"{name}: {len(receiver.first_s)} of {groups} groups told, at the latest"
        f" {latest_s:.1f} s after their first alert; {len(receiver.ended)} of"
        f" {len(range(0, alerts, 3))} ends told; {receiver.messages} messages;"
        f" requests p50 {ordered[len(ordered) // 2] * 1000:.1f} ms, p99 {p99_s * 1000:.0f} ms;"
        f" CPU {cpu.user + cpu.system:.1f} s, memory {usage.memory_info().rss >> 20} MB",
        flush=True,
    )
    return (
        len(receiver.first_s) == groups
        and latest_s <= GROUP_WAIT_S + LATE_S
        and len(receiver.ended) == len(range(0, alerts, 3))
        and p99_s < 1.0
    )


if __name__ == "__main__":
    sys.exit(main())
