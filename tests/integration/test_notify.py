"""`varve serve notify` as its users run it: started, asked, killed, started again."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import MappingProxyType

import httpx
import pytest

from tests.integration.promql import prometheus
from tests.stepped_clock import CAN_BUILD, SteppedClock

# What a machine three times as slow needs, and more.
PATIENCE_S = 60

CONFIG = """
global: {{slack_api_url: 'https://hooks.slack.com/hunter2'}}
route:
  receiver: team
  group_by: [alertname]
  group_wait: {wait}
  group_interval: 2s
  routes: [{{matchers: [severity=page], receiver: pager}}]
receivers:
- {{name: team, webhook_configs: [{{url: '{url}/hunter2'}}]}}
- {{name: pager, webhook_configs: [{{url: '{url}/pager'}}]}}
"""


class Receiver:
    """Takes webhooks, and can be made to fail."""

    def __init__(self) -> None:
        self.messages: list[dict] = []
        self.keys: list[str] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if outer.status == 200:
                    outer.messages.append(body)
                    outer.keys.append(self.headers["Idempotency-Key"])
                self.send_response(outer.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def told(self) -> list[tuple[str, list[str]]]:
        return [
            (m["status"], sorted(a["labels"]["instance"] for a in m["alerts"]))
            for m in self.messages
        ]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


class Process:
    def __init__(
        self, folder: Path, *options: str, environment: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self.log = folder / "log"
        self._environment = {**os.environ, **environment}
        self._folder, self._options = folder, options
        self.start()

    def start(self) -> None:
        self.log.write_text("")
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "varve.cli", "serve", "notify"),
                    f"--config.file={self._folder / 'am.yml'}",
                    f"--storage.path={self._folder / 'data'}",
                    "--web.listen-address=127.0.0.1:0",
                    *self._options,
                ],
                env=self._environment,
                stderr=log,
                stdout=log,
            )
        await_that(lambda: "Listening on" in self.log.read_text() or self.process.poll())
        found = re.search(r'msg="Listening on" address=(\S+)', self.log.read_text())
        assert found, self.log.read_text()
        self.address = found[1]
        self.client = httpx.Client(base_url=f"http://{found[1]}", timeout=PATIENCE_S)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(PATIENCE_S)

    def send(self, *instances: str, lasts_s: float = 3600, **labels: str) -> httpx.Response:
        now = time.time()
        return self.client.post(
            "/api/v2/alerts",
            json=[
                {
                    "labels": {"alertname": "Down", "instance": name, **labels},
                    "startsAt": rfc3339(now - 1),
                    "endsAt": rfc3339(now + lasts_s),
                }
                for name in instances
            ],
        )


def rfc3339(at_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s)) + f".{int(at_s % 1 * 1000):03}Z"


def await_that(condition: Callable[[], object], what: str = "") -> None:
    deadline_s = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline_s, what or "it did not come true in time"
        time.sleep(0.01)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    receiver = Receiver()
    yield receiver
    receiver.close()


@contextmanager
def running(folder: Path, receiver: Receiver, *options: str, wait: str = "0s", **environment: str):
    (folder / "am.yml").write_text(CONFIG.format(url=receiver.url, wait=wait))
    process = Process(folder, *options, environment=environment)
    try:
        yield process
    finally:
        if process.process.poll() is None:
            process.kill()


def test_an_alert_is_told_and_its_end_and_sigterm_ends_it_in_order(tmp_path, receiver):
    with running(tmp_path, receiver) as process:
        assert process.client.get("/-/ready").text == "OK"
        assert process.send("a").status_code == 200
        await_that(lambda: receiver.told() == [("firing", ["a"])])
        process.send("a", lasts_s=-0.5)
        await_that(lambda: receiver.told()[1:] == [("resolved", ["a"])])

        assert process.stop() == 0
    assert receiver.messages[0]["externalURL"] == f"http://{process.address}"
    assert "hunter2" not in process.log.read_text()


def load_time_s() -> float:
    """How long this machine needs, now, to load a library of which a notifier has several."""
    began_s = time.monotonic()
    subprocess.run([sys.executable, "-c", "import httpx"], check=True)
    return time.monotonic() - began_s


def test_it_is_ready_soon_after_its_start(tmp_path, receiver):
    bound_s = max(3.0, 10 * load_time_s())
    began_s = time.monotonic()
    with running(tmp_path, receiver):
        assert time.monotonic() - began_s <= bound_s


def test_killed_at_any_moment_it_forgets_nothing_and_tells_nothing_twice(tmp_path, receiver):
    with running(tmp_path, receiver) as process:
        for number in range(6):
            name = f"i{number}"
            silence = {
                "matchers": [{"name": "instance", "value": f"s{number}", "isRegex": False}],
                "startsAt": rfc3339(time.time()),
                "endsAt": rfc3339(time.time() + 3600),
                "createdBy": "me",
                "comment": "",
            }
            assert process.client.post("/api/v2/silences", json=silence).status_code == 200
            assert process.send(name, alertname=f"A{number}").status_code == 200
            if number % 2:
                await_that(lambda count=number + 1: len(receiver.messages) >= count)
            process.kill()
            process.start()
        await_that(lambda: len(receiver.messages) >= 6)

        assert len(process.client.get("/api/v2/silences").json()) == 6
        assert len(process.client.get("/api/v2/alerts").json()) == 6
        process.send("last", alertname="Last")
        await_that(lambda: ("firing", ["last"]) in receiver.told())

    # A message that was taken and not yet noted may come again, and then by the same key.
    names = [names for _, names in receiver.told()]
    assert (
        sorted(map(tuple, names)) == sorted([("last",), *((f"i{i}",) for i in range(6))])
        or len(set(receiver.keys)) == 7
    )


def test_what_waits_for_its_receiver_is_told_after_a_restart(tmp_path, receiver):
    receiver.status = 503
    with running(tmp_path, receiver) as process:
        process.send("a")
        await_that(lambda: "will retry" in process.log.read_text())
        process.kill()
        receiver.status = 200
        process.start()
        await_that(lambda: receiver.told() == [("firing", ["a"])])


@pytest.mark.skipif(not CAN_BUILD, reason="no C compiler")
def test_an_hour_that_the_clock_is_wrong_ends_no_alert_and_delays_none(tmp_path, receiver):
    clock = SteppedClock(tmp_path)
    told = []
    with running(tmp_path, receiver, wait="1s", **clock.environment) as process:
        for number, hours in enumerate((0, 1, -1, 0)):
            clock.step(3_600 * hours)
            for before in range(number + 1):
                process.send(f"h{before}", lasts_s=600, alertname=f"A{before}")
            told.append(("firing", [f"h{number}"]))
            await_that(lambda: receiver.told() == told, str(receiver.told()))
        process.send("h0", lasts_s=-0.5, alertname="A0")
        await_that(lambda: receiver.told() == [*told, ("resolved", ["h0"])])


def test_a_torn_journal_is_cut_and_said(tmp_path, receiver):
    with running(tmp_path, receiver) as process:
        process.send("a")
        await_that(lambda: receiver.messages)
        process.kill()
        (journal,) = (tmp_path / "data").glob("journal-*")
        with journal.open("ab") as file:
            file.write(b"\x10\x00\x00\x00torn")
        process.start()

        assert "cut short or damaged" in process.log.read_text()
        assert len(process.client.get("/api/v2/alerts").json()) == 1


def test_a_reload_counts_only_if_the_file_can_be_used(tmp_path, receiver):
    with running(tmp_path, receiver) as process:
        path = tmp_path / "am.yml"
        good = path.read_text()
        path.write_text("route: {}")
        answer = process.client.post("/-/reload")
        assert answer.status_code == 500
        assert "must specify a default receiver" in answer.text
        receivers = process.client.get("/api/v2/receivers").json()
        assert receivers == [{"name": "team"}, {"name": "pager"}]

        path.write_text(good.replace("name: pager", "name: other").replace(": pager}", ": other}"))
        process.process.send_signal(signal.SIGHUP)

        await_that(lambda: process.client.get("/api/v2/receivers").json()[1] == {"name": "other"})


def test_what_is_wrong_at_the_start_is_one_line_and_a_status(tmp_path):
    (tmp_path / "am.yml").write_text("route: {receiver: nobody}")
    command = [sys.executable, "-m", "varve.cli", "serve", "notify"]

    command.append(f"--config.file={tmp_path / 'am.yml'}")
    ended = subprocess.run(command, capture_output=True, text=True, check=False)

    assert ended.returncode != 0
    assert "undefined receiver 'nobody'" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_requests_that_are_refused(tmp_path, receiver):
    with running(tmp_path, receiver, wait="1h") as process:
        client = process.client
        for method, path, body, status in (
            ("POST", "/api/v2/alerts", b"{", 400),
            ("POST", "/api/v2/alerts", b'[{"labels": {}}]', 400),
            ("POST", "/api/v2/alerts", b'[{"labels": {"a": 1}}]', 400),
            ("POST", "/api/v2/alerts", b'[{"annotations": {}}]', 422),
            ("POST", "/api/v2/alerts", b'[{"labels": {"a": "b"}, "startsAt": "x"}]', 400),
            ("POST", "/api/v2/silences", b'{"id": ""}', 422),
            ("POST", "/api/v2/silences", b"", 422),
            ("GET", "/api/v2/silence/nope", b"", 422),
            ("DELETE", f"/api/v2/silence/{uuid.uuid4()}", b"", 404),
            ("GET", "/api/v2/alerts?filter=a", b"", 400),
            ("GET", "/api/v2/alerts?receiver=(", b"", 400),
            ("GET", "/api/v2/alerts?filter={a=b", b"", 400),
            ("GET", "/api/v1/alerts", b"", 404),
            ("PUT", "/api/v2/alerts", b"", 405),
        ):
            kind = {"Content-Type": "application/json"} if body else {}
            answer = client.request(method, path, content=body, headers=kind)
            assert answer.status_code == status, (method, path, answer.text)
        plain = client.post("/api/v2/alerts", content=b"[]", headers={"Content-Type": "text/plain"})
        assert plain.status_code == 415
        put = client.put("/api/v2/alerts").json()
        assert put == {"code": 405, "message": "method PUT is not allowed, but [GET,POST] are"}
        foreign = client.post("/-/reload", headers={"Origin": "http://evil.example"})
        rebound = client.get("/api/v2/status", headers={"Host": "evil.example"})
        assert (foreign.status_code, rebound.status_code) == (403, 403)
        assert "--web.external-url" in rebound.text


def test_filters_of_alerts_and_groups(tmp_path, receiver):
    with running(tmp_path, receiver, wait="1h") as process:
        process.send("a")
        process.send("b", severity="page")

        def names(path: str) -> list[str]:
            return sorted(a["labels"]["instance"] for a in process.client.get(path).json())

        assert names("/api/v2/alerts") == ["a", "b"]
        assert names('/api/v2/alerts?filter=severity="page"') == ["b"]
        assert names("/api/v2/alerts?filter=instance=~.*&filter=severity=") == ["a"]
        assert names("/api/v2/alerts?receiver=te.m") == ["a"]
        assert names("/api/v2/alerts?active=false") == []
        groups = process.client.get("/api/v2/alerts/groups?receiver=pager").json()
        assert [g["labels"] for g in groups] == [{"alertname": "Down"}]
        page = process.client.get("/metrics").text
        assert 'varve_notify_alerts{status="firing"} 2.0' in page


def test_the_prefix_of_the_external_address_is_that_of_paths(tmp_path, receiver):
    options = ("--web.external-url=http://varve.example/notify",)
    with running(tmp_path, receiver, *options) as process:
        assert process.client.get("/notify/-/healthy").status_code == 200
        assert process.client.get("/-/healthy").status_code == 404
        alert = [{"labels": {"alertname": "x", "instance": "y"}}]
        assert process.client.post("/notify/api/v2/alerts", json=alert).status_code == 200
        await_that(lambda: receiver.messages)
    assert receiver.messages[0]["externalURL"] == "http://varve.example/notify"


def test_many_senders_at_once_are_answered(tmp_path, receiver):
    with running(tmp_path, receiver, wait="1h") as process:

        async def send_all() -> list[int]:
            async with httpx.AsyncClient(
                base_url=f"http://{process.address}", timeout=PATIENCE_S
            ) as client:
                answers = await asyncio.gather(
                    *(
                        client.post(
                            "/api/v2/alerts",
                            json=[
                                {"labels": {"alertname": "A", "i": f"{i}-{j}"}} for j in range(20)
                            ],
                        )
                        for i in range(100)
                    )
                )
                return [answer.status_code for answer in answers]

        assert set(asyncio.run(send_all())) == {200}
        assert len(process.client.get("/api/v2/alerts").json()) == 2_000


@pytest.mark.skipif(bool(prometheus.missing()), reason=prometheus.missing())
def test_alerts_of_a_prometheus_are_told_and_their_ends(tmp_path, receiver):
    rules = "groups: [{name: g, interval: 1s, rules: [{alert: Down, expr: kiln == 0}]}]"
    (tmp_path / "rules.yml").write_text(rules)
    kiln = (("__name__", "kiln"), ("instance", "a"))

    def at(value: float) -> dict:
        return {kiln: [(int(time.time() * 1000), value)]}

    def knows_it(client: httpx.Client) -> list:
        found = client.get("/api/v1/alertmanagers").json()["data"]
        return found["activeAlertmanagers"]

    with running(tmp_path, receiver) as notifier:
        folder = tmp_path / "prometheus"
        folder.mkdir()
        config = (
            f"rule_files: ['{tmp_path / 'rules.yml'}']\nalerting: {{alertmanagers:"
            f" [{{static_configs: [{{targets: ['{notifier.address}']}}]}}]}}\n"
        )
        with prometheus.prometheus(folder, at(1.0), config) as client:
            await_that(lambda: knows_it(client))
            prometheus.write(client, at(0.0))
            await_that(lambda: receiver.told() == [("firing", ["a"])])
            prometheus.write(client, at(1.0))
            await_that(lambda: receiver.told()[1:] == [("resolved", ["a"])])

    (firing, _) = [message["alerts"][0] for message in receiver.messages]
    assert "/graph?g0.expr=kiln" in firing["generatorURL"]
    assert firing["labels"] == {"alertname": "Down", "instance": "a"}


@pytest.mark.skipif(shutil.which("amtool") is None, reason="needs Debian's prometheus-alertmanager")
def test_amtool_works_unchanged(tmp_path, receiver):
    with running(tmp_path, receiver, wait="1h") as process:

        def amtool(*arguments: str) -> str:
            url = f"--alertmanager.url=http://{process.address}"
            done = subprocess.run(
                ["amtool", url, *arguments], capture_output=True, text=True, check=False
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        amtool("alert", "add", "Down", "instance=a", "--annotation=summary=it is")
        process.send("b", severity="page")
        assert "it is" in amtool("alert", "query", "-o", "extended", "instance=a")
        silence_id = amtool(
            *("silence", "add", "instance=~a|c", "-c", "why", "-a", "me", "-d", "1h")
        ).strip()
        assert silence_id in amtool("silence", "query", "instance=~a|c")
        assert silence_id not in amtool("silence", "query", "instance=~.*c")
        assert "a" not in json.dumps(
            [a["labels"]["instance"] for a in json.loads(amtool("alert", "query", "-o", "json"))]
        )
        amtool("silence", "update", "-d", "2h", silence_id)
        amtool("silence", "expire", silence_id)
        assert silence_id in amtool("silence", "query", "--expired")
        assert "receiver: pager" in amtool("config", "routes", "show")
        assert amtool("config", "routes", "test", "severity=page").strip() == "pager"
        assert "group_wait: 1h" in amtool("config", "show")
        assert "hunter2" not in amtool("config", "show")
        amtool("cluster", "show")


@contextmanager
def cluster(tmp_path: Path, receiver: Receiver, *options: str) -> Iterator[list[Process]]:
    """Three notifiers: the second and third know of the first only."""
    processes: list[Process] = []
    try:
        for number in range(3):
            folder = tmp_path / str(number)
            folder.mkdir(exist_ok=True)
            (folder / "am.yml").write_text(CONFIG.format(url=receiver.url, wait="1s"))
            peers = [f"--cluster.peer={address_for_peers(processes[0])}"] if processes else []
            process = Process(folder, "--cluster.listen-address=127.0.0.1:0", *peers, *options)
            processes.append(process)
        yield processes
    finally:
        for process in processes:
            if process.process.poll() is None:
                process.kill()


def address_for_peers(process: Process) -> str:
    found = re.search(r'msg="Listening for peers on" address=(\S+)', process.log.read_text())
    assert found
    return found[1]


def peers_of(process: Process) -> set[str]:
    status = process.client.get("/api/v2/status").json()["cluster"]
    return {peer["address"] for peer in status["peers"]}


def test_three_notifiers_find_each_other_and_tell_once(tmp_path, receiver):
    with cluster(tmp_path, receiver) as processes:
        began_s = time.monotonic()
        everybody = {address_for_peers(process) for process in processes}
        await_that(lambda: all(peers_of(process) == everybody for process in processes))
        assert time.monotonic() - began_s <= max(2.0, 10 * load_time_s())

        for process in processes:
            process.send("a")
        await_that(lambda: receiver.told() == [("firing", ["a"])])
        # One silence, made at one of them, is everywhere.
        silence = {
            "matchers": [{"name": "instance", "value": "a", "isRegex": False}],
            "startsAt": rfc3339(time.time()),
            "endsAt": rfc3339(time.time() + 3600),
            "createdBy": "me",
            "comment": "",
        }
        processes[1].client.post("/api/v2/silences", json=silence)
        await_that(
            lambda: all(len(p.client.get("/api/v2/silences").json()) == 1 for p in processes)
        )
        # An alert that one of them was sent is told, too, and told once.
        processes[2].send("b", alertname="Other")
        await_that(lambda: ("firing", ["b"]) in receiver.told())
        await_that(lambda: all(len(p.client.get("/api/v2/alerts").json()) == 2 for p in processes))
        await_looks(processes, receiver)
    assert sorted(receiver.told()) == [("firing", ["a"]), ("firing", ["b"])]


def await_looks(processes: list[Process], receiver: Receiver) -> None:
    """Until every notifier has looked at its groups again, which another alert shows."""
    before = len(receiver.messages)
    for process in processes:
        process.send("later", alertname=f"Later{process.address}")
    await_that(lambda: len(receiver.messages) >= before + len(processes))
    del receiver.messages[before:]


def test_when_the_notifier_whose_turn_it_is_dies_another_one_tells(tmp_path, receiver):
    with cluster(tmp_path, receiver) as processes:
        everybody = {address_for_peers(process) for process in processes}
        await_that(lambda: all(peers_of(process) == everybody for process in processes))
        for process in processes:
            process.send("a")
        names = {p.client.get("/api/v2/status").json()["cluster"]["name"]: p for p in processes}
        first = names[min(names)]
        first.kill()
        rest = [p for p in processes if p is not first]

        await_that(lambda: ("firing", ["a"]) in receiver.told())

        assert all(len(peers_of(p)) == 2 for p in rest)
        for p in rest:
            p.send("a", lasts_s=-0.5)
        await_that(lambda: ("resolved", ["a"]) in receiver.told())
    ends = [told for told in receiver.told() if told[0] == "resolved"]
    assert ends == [("resolved", ["a"])]


def test_a_notifier_that_starts_again_gets_what_it_missed(tmp_path, receiver):
    with cluster(tmp_path, receiver) as processes:
        everybody = {address_for_peers(process) for process in processes}
        await_that(lambda: all(peers_of(process) == everybody for process in processes))
        lost = processes[2]
        lost.kill()
        await_that(lambda: len(peers_of(processes[0])) == 2)
        processes[0].send("a")
        await_that(lambda: receiver.told() == [("firing", ["a"])])

        lost.start()

        await_that(lambda: len(lost.client.get("/api/v2/alerts").json()) == 1)
        await_that(lambda: len(peers_of(lost)) == 3)
        await_looks(processes, receiver)
    assert receiver.told() == [("firing", ["a"])]
