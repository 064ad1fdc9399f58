"""The notifier's scenarios of alerttest over HTTP, in quickened real time, several at once.

A scenario's times are divided by --speed; its messages are compared in its own time again, within
--within seconds of it. Those that need a clock that can be set, or take too long, are left out.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import re
import signal
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

_DEFAULTS_MS = {"group_wait": 30_000, "group_interval": 300_000, "repeat_interval": 14_400_000}
_LONGEST_MS = 16 * 60_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shared", type=Path, default=Path("../shared"))
    parser.add_argument("--only", default="", help="scenarios whose name has this")
    parser.add_argument("--speed", type=int, default=20)
    parser.add_argument("--within", type=float, default=10.0, help="seconds of the scenario")
    parser.add_argument("--at-once", type=int, default=8)
    parser.add_argument("--command", default=f"{sys.executable} -m varve.cli serve notify")
    args = parser.parse_args()
    sys.path.insert(0, str(args.shared.resolve()))
    from alerttest import notification, reading

    scenarios = [
        scenario
        for file in reading.files([args.shared / "alerttest" / "notification"])
        for scenario in notification.scenarios(file)
        if scenario.live
        and args.only in scenario.name
        and scenario.plan["until_ms"] - scenario.plan["start_ms"] <= _LONGEST_MS
    ]
    failed = asyncio.run(run_all(scenarios, notification, reading, args))
    print(f"{len(scenarios) - failed} of {len(scenarios)}")
    return 1 if failed else 0


async def run_all(scenarios: list[Any], notification: Any, reading: Any, args: Any) -> int:
    slots, failed = asyncio.Semaphore(args.at_once), 0

    async def one(scenario: Any) -> bool:
        async with slots:
            scenario.within_ms = max(scenario.within_ms, round(args.within * 1000))
            outcome = await Run(scenario.plan, reading, args).outcome()
            wrong = notification.failures(scenario, outcome)
            if wrong:
                print(f"FAIL {scenario.name}", *wrong, sep="\n     ", flush=True)
            return bool(wrong)

    for result in await asyncio.gather(*map(one, scenarios)):
        failed += result
    return failed


class Run:
    """One scenario against a process of its own."""

    def __init__(self, plan: dict[str, Any], reading: Any, args: Any) -> None:
        self._plan, self._reading, self._args = plan, reading, args
        self._speed = args.speed
        self._answers: dict[str, int] = {}
        self._messages: list[dict[str, Any]] = []
        self._silences: dict[str, str] = {}
        self._said: dict[str, Any] = {}
        self._process: asyncio.subprocess.Process | None = None
        self._client = httpx.AsyncClient(timeout=10)
        self._zero_s = 0.0

    async def outcome(self) -> dict[str, Any]:
        server = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        self._port = server.sockets[0].getsockname()[1]
        with tempfile.TemporaryDirectory() as folder:
            self._folder = Path(folder)
            self._write_config(self._plan["config"])
            try:
                await self._start()
                self._zero_s = time.time()
                for event in self._plan["events"]:
                    await self._sleep_until(event["at_ms"])
                    await self._happen(event)
                await self._sleep_until(self._plan["until_ms"])
            finally:
                if self._process is not None:
                    self._process.kill()
                    await self._process.wait()
                await self._client.aclose()
                server.close()
        return {
            "notifications": self._messages,
            "silences": self._silences,
            "answers": self._said,
        }

    async def _happen(self, event: dict[str, Any]) -> None:
        kind = event["kind"]
        if kind == "answer":
            self._answers[event["receiver"]] = event["status"]
        elif kind == "stop" and self._process is not None:
            self._process.send_signal(signal.SIGKILL if event["kill"] else signal.SIGTERM)
            await self._process.wait()
            self._process = None
        elif kind == "start":
            await self._start()
        elif kind == "reload":
            self._write_config(event["config"])
            await self._request("POST", "/-/reload")
        else:
            await self._ask(event)

    async def _ask(self, event: dict[str, Any]) -> None:
        kind, ref = event["kind"], event.get("ref", "")
        if kind == "alerts":
            answer = await self._request("POST", "/api/v2/alerts", self._real(event["alerts"]))
            if answer is not None and answer.is_error:
                self._said[ref] = {"status": answer.status_code}
        elif kind == "silence":
            body = self._real(event["silence"])
            if "updates" in event:
                body["id"] = self._silences[event["updates"]]
            answer = await self._request("POST", "/api/v2/silences", body)
            if answer is not None and answer.is_success:
                self._silences[ref] = answer.json()["silenceID"]
            elif answer is not None:
                self._said[ref] = {"status": answer.status_code}
        elif kind == "expire":
            await self._request("DELETE", f"/api/v2/silence/{self._silences[ref]}")
        elif kind == "ask":
            path = {"groups": "alerts/groups"}.get(event["what"], event["what"])
            answer = await self._request("GET", f"/api/v2/{path}{event['query']}")
            self._said[ref] = answer.json() if answer is not None else None

    async def _request(self, method: str, path: str, body: Any = None) -> httpx.Response | None:
        """None if nobody is there to answer."""
        with contextlib.suppress(httpx.TransportError):
            return await self._client.request(method, f"http://{self._address}{path}", json=body)
        return None

    async def _start(self) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *self._args.command.split(),
            f"--config.file={self._folder / 'am.yml'}",
            f"--storage.path={self._folder / 'data'}",
            "--web.listen-address=127.0.0.1:0",
            stderr=asyncio.subprocess.PIPE,
        )
        stderr, self._log = self._process.stderr, []
        assert stderr is not None
        while True:
            line = (await stderr.readline()).decode()
            self._log.append(line)
            if found := re.search(r'msg="Listening on" address=(\S+)', line):
                self._address = found[1]
                break
            if not line:
                raise RuntimeError("".join(self._log))
        self._drain = asyncio.create_task(stderr.read())

    def _write_config(self, text: str) -> None:
        tree = yaml.safe_load(text)
        tree.setdefault("global", {}).setdefault("resolve_timeout", "5m")
        self._quicken(tree["global"], ("resolve_timeout",))
        for name, value_ms in _DEFAULTS_MS.items():
            tree["route"].setdefault(name, f"{value_ms}ms")
        self._quicken_route(tree["route"])
        for receiver in tree["receivers"]:
            for hook in receiver.get("webhook_configs", []):
                name = urlsplit(hook["url"]).hostname
                hook["url"] = f"http://127.0.0.1:{self._port}/{name}"
        (self._folder / "am.yml").write_text(yaml.safe_dump(tree, allow_unicode=True))

    def _quicken_route(self, route: dict[str, Any]) -> None:
        self._quicken(route, tuple(_DEFAULTS_MS))
        for child in route.get("routes", []):
            self._quicken_route(child)

    def _quicken(self, tree: dict[str, Any], names: tuple[str, ...]) -> None:
        for name in names:
            if name in tree:
                tree[name] = f"{self._reading.duration_ms(tree[name]) // self._speed}ms"

    def _real(self, value: Any) -> Any:
        """A body with its times as they are now."""
        if isinstance(value, list):
            return [self._real(item) for item in value]
        changed = dict(value)
        for key in ("startsAt", "endsAt"):
            if key in changed:
                at_ms = self._reading.parse_rfc3339_ms(changed[key])
                moment = datetime.fromtimestamp(self._real_s(at_ms), UTC)
                changed[key] = moment.isoformat(timespec="milliseconds")
        return changed

    def _real_s(self, at_ms: int) -> float:
        return self._zero_s + (at_ms - self._plan["start_ms"]) / 1000 / self._speed

    def _planned_ms(self, at_s: float) -> int:
        return self._plan["start_ms"] + round((at_s - self._zero_s) * 1000 * self._speed)

    async def _sleep_until(self, at_ms: int) -> None:
        await asyncio.sleep(max(0.0, self._real_s(at_ms) - time.time()))

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answers webhooks, one after another on a connection."""
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(re.search(r"(?i)content-length: (\d+)", head)[1])
                payload = json.loads(await reader.readexactly(length))
                name = head.split()[1].strip("/")
                status = self._answers.get(name, 200)
                if status // 100 == 2:
                    self._note(name, payload)
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
                await writer.drain()
        writer.close()

    def _note(self, name: str, payload: dict[str, Any]) -> None:
        for alert in payload["alerts"]:
            for key in ("startsAt", "endsAt"):
                if not alert[key].startswith("0001"):
                    at_s = self._reading.parse_rfc3339_ms(alert[key]) / 1000
                    alert[key] = self._reading.rfc3339(self._planned_ms(at_s))
        at_ms = self._planned_ms(time.time())
        self._messages.append({"at_ms": at_ms, "receiver": name, "payload": payload})


if __name__ == "__main__":
    sys.exit(main())
