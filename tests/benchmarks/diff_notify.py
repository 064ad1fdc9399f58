"""The notifier beside Debian's Alertmanager: the same requests and files at the same time.

    python tests/benchmarks/diff_notify.py [--only TEXT] [--within 0.15]

Real processes in real time, started by the same options. Of each scenario the messages are
compared, each with its body and when it came, and so are answers of the API: status, kind of body,
and what is in it, but for times and identities. Exits 1 if anything differs. On a machine that
does much else, --within has to be longer.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx

from varve.local.broker import free_port

COMMANDS = {
    "varve": [sys.executable, "-m", "varve.cli", "serve", "notify"],
    "alertmanager": ["prometheus-alertmanager"],
}
READY_S = 60.0
BASE = """\
route:
  receiver: team
  group_by: [alertname]
  group_wait: 1s
  group_interval: 2s
  repeat_interval: 5s
  routes:
  - {matchers: [severity=page], receiver: pager, continue: true}
  - {matchers: ['team=~"a|b"'], receiver: each, group_by: ['...'], group_wait: 500ms}
inhibit_rules:
- {source_matchers: [severity=page], target_matchers: [severity=warning], equal: [host]}
receivers:
- {name: team, webhook_configs: [{url: 'URL/team'}]}
- {name: pager, webhook_configs: [{url: 'URL/pager', max_alerts: 2}]}
- {name: each, webhook_configs: [{url: 'URL/each', send_resolved: false}]}
"""
# Ours alone, by design: named in docs/notify.md, "What differs from Alertmanager".
NOT_COMPARED = {"mutedBy"}


class Target:
    """One notifier, the receivers it tells, and what they heard."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder
        self.heard: list[tuple[float, str, dict[str, Any]]] = []
        self.answers: list[Any] = []
        self.silences: list[str] = []
        self.down: set[str] = set()
        self.address = f"127.0.0.1:{free_port()}"
        self.client = httpx.AsyncClient(base_url=f"http://{self.address}", timeout=30)
        self._zero_s = 0.0

    async def begin(self) -> None:
        server = await asyncio.start_server(self._receive, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self.configure(BASE)
        await self.start()

    async def end(self) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self.client.aclose()

    async def start(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                *COMMANDS[self.name],
                f"--config.file={self.folder / 'am.yml'}",
                f"--storage.path={self.folder / 'data'}",
                f"--web.listen-address={self.address}",
                "--web.external-url=http://alerts.example/am",
                "--web.route-prefix=/",
                "--cluster.listen-address=",
                stderr=log,
                stdout=log,
            )
        async with asyncio.timeout(READY_S):
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await self.client.get("/-/ready")).is_success:
                        return
                assert self.process.returncode is None, (self.folder / "log").read_text()
                await asyncio.sleep(0.02)

    async def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return await self.process.wait()

    def configure(self, text: str) -> None:
        (self.folder / "am.yml").write_text(text.replace("URL", self.url))

    def zero(self, at_s: float) -> None:
        """Times count from here."""
        self._zero_s = at_s

    async def at(self, seconds: float) -> None:
        await asyncio.sleep(max(0.0, self._zero_s + seconds - time.time()))

    async def ask(self, method: str, path: str, body: Any = None) -> Any:
        """The answer is compared: status, and body without times and identities."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = {"Content-Type": "application/json"}
        sent = {} if body is None else {"content": content, "headers": kind}
        answer = await self.client.request(method, path, **sent)
        with contextlib.suppress(ValueError):
            shown = comparable(answer.json())
            # Why something is refused is said in words of one's own.
            why = "object" if isinstance(shown, dict) else "text"
            kind_of = shown if answer.is_success else why
            self.answers.append((method, path, answer.status_code, kind_of))
            return answer.json()
        self.answers.append(
            (method, path, answer.status_code, answer.text if answer.is_success else "text")
        )
        return None

    async def fire(
        self, *names: str, starts_s: float = 0.0, ends_s: float = 300, **labels: str
    ) -> None:
        """Alerts that began so long after zero. names: NAME/HOST."""
        await self.ask(
            "POST",
            "/api/v2/alerts",
            [
                {
                    "labels": {
                        "alertname": name.split("/")[0],
                        "host": name.split("/")[1],
                        **labels,
                    },
                    "annotations": {"summary": f"{name} <&>"},
                    "startsAt": rfc3339(self._zero_s + starts_s),
                    "endsAt": rfc3339(self._zero_s + ends_s),
                    "generatorURL": "http://prometheus/graph?g0.expr=up",
                }
                for name in names
            ],
        )

    async def silence(self, seconds: float, **labels: str) -> str:
        body = silence_of(self._zero_s, self._zero_s + seconds, **labels)
        found = await self.ask("POST", "/api/v2/silences", body)
        self.silences.append(found["silenceID"])
        return str(found["silenceID"])

    async def amtool(self, *arguments: str) -> str:
        process = await asyncio.create_subprocess_exec(
            "amtool",
            f"--alertmanager.url=http://{self.address}",
            *arguments,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await process.communicate()
        # It warns of versions that are not its own.
        said = [line for line in err.decode().splitlines() if not line.startswith("Warning")]
        self.answers.append(("amtool", arguments[:2], process.returncode, said))
        return out.decode().strip()

    async def _receive(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ends = asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError
        with contextlib.suppress(*ends):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                length = int(head.lower().partition("content-length: ")[2].split("\r", 1)[0])
                body = json.loads(await reader.readexactly(length))
                path = head.split()[1]
                status = 500 if path in self.down else 200
                if status == 200:
                    self.heard.append((time.time() - self._zero_s, path, body))
                writer.write(f"HTTP/1.1 {status} x\r\nContent-Length: 0\r\n\r\n".encode())
        writer.close()


def rfc3339(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s % 1 * 1000):03}Z"


def silence_of(starts_s: float, ends_s: float, **labels: str) -> dict[str, Any]:
    return {
        "matchers": [
            {"name": name, "value": value, "isRegex": False} for name, value in labels.items()
        ],
        "startsAt": rfc3339(starts_s),
        "endsAt": rfc3339(ends_s),
        "createdBy": "me",
        "comment": "why",
    }


def comparable(value: Any, key: str = "") -> Any:
    """A body without what two processes cannot have the same of."""
    if isinstance(value, list):
        items = [comparable(item, key) for item in value]
        return sorted(items, key=lambda item: json.dumps(item, sort_keys=True))
    if key == "versionInfo":
        return sorted(value)
    if isinstance(value, dict):
        return {
            name: comparable(item, name)
            for name, item in sorted(value.items())
            if name not in NOT_COMPARED
        }
    if key in {"silencedBy", "inhibitedBy", "original"}:
        return type(value).__name__
    if key.endswith("At") or key in {"id", "silenceID", "uptime", "status.uptime"}:
        return "0001" if str(value).startswith("0001") else type(value).__name__
    return value


# --- scenarios: each runs against both at once


async def grouping(t: Target) -> None:
    await t.fire("A/1")
    await t.at(0.4)
    await t.fire("A/2", "B/1")
    await t.at(1.6)
    await t.fire("A/3")
    await t.at(4.2)
    await t.fire("A/1", ends_s=4.1)
    await t.at(12.5)


async def routing(t: Target) -> None:
    await t.fire("A/1", "A/2", "A/3", severity="page")
    await t.fire("A/1", "A/2", team="a")
    await t.ask("GET", "/api/v2/alerts?receiver=pager")
    await t.at(1.3)
    await t.ask("GET", "/api/v2/alerts/groups")
    await t.fire("A/1", ends_s=1.2, team="a")
    await t.at(4.5)


async def inhibition(t: Target) -> None:
    await t.fire("Dead/1", severity="page")
    await t.fire("Slow/1", "Slow/2", severity="warning")
    await t.at(0.5)
    await t.ask("GET", "/api/v2/alerts?inhibited=false")
    await t.at(1.5)
    await t.fire("Dead/1", severity="page", ends_s=1.4)
    await t.at(5.5)


async def silences(t: Target) -> None:
    await t.silence(60, host="1")
    by_amtool = await t.amtool("silence", "add", "host=2", "-c", "x", "-a", "me", "-d", "1h")
    await t.at(0.9)
    t.zero(t._zero_s + 0.9)
    await t.fire("A/1", "A/2", "A/3")
    await t.at(0.3)
    await t.ask("GET", "/api/v2/alerts?silenced=false")
    await t.ask("GET", "/api/v2/silences")
    await t.at(1.4)
    await t.amtool("silence", "expire", by_amtool)
    await t.at(3.6)
    await t.ask("DELETE", f"/api/v2/silence/{t.silences[0]}")
    t.answers[-1] = ("DELETE", "silence", *t.answers[-1][2:])
    await t.at(6.5)
    await t.ask("GET", "/api/v2/silences")


async def restarting(t: Target) -> None:
    t.configure(BASE.replace("repeat_interval: 5s", "repeat_interval: 1h"))
    await t.ask("POST", "/-/reload")
    await t.fire("A/1", "A/2")
    silence = await t.silence(3600, host="2")
    await t.at(1.6)
    t.answers.append(("exit", await t.stop()))
    await t.start()
    # A start is followed by the next second that divides by ten, so both go on together.
    t.zero(t._zero_s + 10.0)
    await t.at(0.0)
    await t.fire("A/1", "A/2", "B/1", starts_s=-10)
    assert (await t.client.get(f"/api/v2/silence/{silence}")).is_success
    await t.at(4.0)


async def reloading(t: Target) -> None:
    await t.fire("A/1")
    await t.at(0.3)
    t.configure("route: {receiver: nobody}\nreceivers: []\n")
    await t.ask("POST", "/-/reload")
    await t.at(1.5)
    t.configure(BASE.replace("group_by: [alertname]", "group_by: [host]"))
    t.process.send_signal(signal.SIGHUP)
    await t.at(2.0)
    await t.fire("B/2")
    await t.ask("GET", "/api/v2/alerts/groups")
    await t.at(4.5)


async def reloading_under_load(t: Target) -> None:
    """Alerts come in while the configuration is read again, and none is lost."""
    for turn in range(10):
        await t.fire(*(f"A{turn}/{n}" for n in range(20)), starts_s=turn * 0.4)
        if turn % 2:
            await t.ask("POST", "/-/reload")
        await t.at(turn * 0.4)
    await t.at(9.0)
    told = {
        alert["labels"]["alertname"] + alert["labels"]["host"]
        for _, _, body in t.heard
        for alert in body["alerts"]
    }
    t.heard.clear()  # how often depends on the reload's moment
    t.answers.append(("told", len(told)))


async def failing(t: Target) -> None:
    t.down.add("/team")
    await t.fire("A/1")
    await t.at(1.4)
    t.down.clear()
    await t.at(3.2)
    t.answers.append(("told", [path for _, path, _ in t.heard][:1]))
    t.heard.clear()  # the pace of attempts is one's own


async def answering(t: Target) -> None:
    """What is refused, and with which status; what is answered, and in which form."""
    now = t._zero_s
    good = {"labels": {"alertname": "A"}}
    bodies: list[Any] = [
        [],
        [good],
        [{"labels": {}}],
        [{"labels": {"a": ""}}],
        [{}],
        {},
        "x",
        None,
        [{**good, "startsAt": "yesterday"}],
        [{"labels": {"a": 1}}],
        [{**good, "startsAt": rfc3339(now), "endsAt": rfc3339(now - 60)}],
        [{**good, "generatorURL": "no url"}],
        [{**good, "more": 1}],
        [good, {"labels": {}}],
        b"{",
        b"",
    ]
    for body in bodies:
        await t.ask("POST", "/api/v2/alerts", body)
    silence = silence_of(now, now + 60, a="b")
    for change in (
        {},
        {"matchers": []},
        {"comment": ""},
        {"createdBy": ""},
        {"endsAt": rfc3339(now - 60)},
        {"id": "nope"},
        {"id": "11111111-1111-1111-1111-111111111111"},
        {"startsAt": "x"},
        {"matchers": [{"name": "a", "value": "(", "isRegex": True}]},
        {"matchers": [{"name": "a", "value": "", "isRegex": False}]},
        {"matchers": [{"name": "a", "value": ".*", "isRegex": True}]},
        {"matchers": [{"name": "", "value": "x", "isRegex": False}]},
        {"matchers": [{"name": "a", "value": "x"}]},
        {"matchers": [{"name": "a", "value": "x", "isRegex": False, "isEqual": False}]},
        {"startsAt": rfc3339(now + 30), "endsAt": rfc3339(now + 30)},
    ):
        await t.ask("POST", "/api/v2/silences", silence | change)
    for name in ("matchers", "startsAt", "endsAt", "createdBy", "comment"):
        await t.ask("POST", "/api/v2/silences", {k: v for k, v in silence.items() if k != name})
    for path in (
        "status",
        "receivers",
        "silences",
        "alerts",
        "alerts/groups",
        "nothing",
        "alerts?filter=a=b",
        "alerts?filter={a=b",
        "alerts?filter=a",
        "alerts?filter=a=~(",
        "alerts?receiver=(",
        "alerts?active=x",
        "alerts?active=false",
        "alerts/groups?active=no",
        "alerts/groups?filter=alertname=A",
        "alerts/groups?receiver=pager",
        "silences?filter=a=b",
        "silences?filter=x",
        "silences?filter=a=~b.*",
        "alerts?unprocessed=false",
        "silence/nope",
        "silence/11111111-1111-1111-1111-111111111111",
    ):
        await t.ask("GET", f"/api/v2/{path}")
    await t.ask("DELETE", "/api/v2/silence/nope")
    await t.ask("DELETE", "/api/v2/alerts")
    await t.ask("PUT", "/api/v2/silences", silence)
    await t.ask("GET", "/-/reload")
    for path in ("/-/healthy", "/-/ready"):
        await t.ask("GET", path)
        t.answers[-1] = t.answers[-1][:3]
    await t.ask("HEAD", "/-/ready")
    await t.ask("GET", "/api/v1/alerts")
    t.answers[-1] = t.answers[-1][:2]
    await t.ask("OPTIONS", "/api/v2/alerts")
    plain = await t.client.post(
        "/api/v2/alerts", content=b"[]", headers={"Content-Type": "text/plain"}
    )
    t.answers.append(("POST", "text/plain", plain.status_code))
    t.heard.clear()


SCENARIOS: tuple[Callable[[Target], Awaitable[None]], ...] = (
    answering,
    grouping,
    routing,
    inhibition,
    silences,
    restarting,
    reloading,
    reloading_under_load,
    failing,
)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", default="", help="scenarios whose name has this")
    parser.add_argument("--within", type=float, default=0.15, help="seconds between messages")
    args = parser.parse_args()
    wanted = [scenario for scenario in SCENARIOS if args.only in scenario.__name__]
    failed = [asyncio.run(differs(scenario, args.within)) for scenario in wanted].count(True)
    print(f"{len(wanted) - failed} of {len(wanted)} scenarios without a difference")
    return 1 if failed else 0


async def differs(scenario: Callable[[Target], Awaitable[None]], within_s: float) -> bool:
    folder = Path(tempfile.mkdtemp())
    targets = []
    for name in COMMANDS:
        (folder / name).mkdir()
        targets.append(Target(name, folder / name))
    try:
        await asyncio.gather(*(target.begin() for target in targets))
        for target in targets:
            target.zero(time.time())
        await asyncio.gather(*(scenario(target) for target in targets))
    finally:
        for target in targets:
            await target.end()
        shutil.rmtree(folder)
    found = [*different_answers(*targets), *different_messages(*targets, within_s)]
    latest = max(
        (abs(o[0] - t[0]) for o, t in zip(*(heard(t) for t in targets), strict=False)), default=0.0
    )
    print(
        f"{scenario.__name__}: {len(targets[0].answers)} answers, {len(targets[0].heard)} messages,"
        f" at most {latest * 1000:.0f} ms apart: {'DIFFERS' if found else 'same'}",
        *found,
        sep="\n  ",
        flush=True,
    )
    return bool(found)


def different_answers(ours: Target, theirs: Target) -> list[str]:
    return [
        f"ours   {mine}\n  theirs {other}"
        for mine, other in zip(ours.answers, theirs.answers, strict=True)
        if mine != other
    ]


def different_messages(ours: Target, theirs: Target, within_s: float) -> list[str]:
    mine, other = heard(ours), heard(theirs)
    found = [
        f"ours   {at_s:.3f} {body}\n  theirs {their_s:.3f} {their_body}"
        for (at_s, body), (their_s, their_body) in zip(mine, other, strict=False)
        if body != their_body or abs(at_s - their_s) > within_s
    ]
    if len(mine) != len(other):
        found.append(f"{len(mine)} messages {times(mine)}\n  theirs {len(other)} {times(other)}")
    return found


def times(messages: list[tuple[float, str]]) -> list[tuple[float, str]]:
    return [(round(at_s, 2), json.loads(text)["path"]) for at_s, text in messages]


def heard(target: Target) -> list[tuple[float, str]]:
    """Messages by receiver and time; each with all that two processes can have the same of."""
    shown = []
    for at_s, path, body in target.heard:
        plain = json.dumps({"path": path, **body}, sort_keys=True)
        group = body["groupKey"]
        shown.append((path, group, at_s, json.dumps(comparable(json.loads(plain)), sort_keys=True)))
    return [(at_s, text) for _, _, at_s, text in sorted(shown)]


if __name__ == "__main__":
    sys.exit(main())
