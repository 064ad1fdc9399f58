"""`varve up` as a user runs it, for tests."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections import Counter

from varve.local.broker import free_port
from varve.storage.log import entries
from varve.storage.table import Table

DEADLINE_S = 480


def accounted(store):
    """What became of all samples, by the accounting of every batch, each of whose offsets begin
    where those before it ended; `rows` is what the table has.
    """
    table, found, ends = Table(store, "samples"), Counter(), {}
    for entry in entries(store, "samples", -1, table.version):
        batch = entry.metadata
        if "offsets" not in batch:
            continue
        for name in ("in", "stored", "merged"):
            found[name] += batch[name]
        found["rejected"] += sum(batch["rejected"].values())
        for name, (begin, end) in batch["offsets"].items():
            assert begin == ends.get(name, 0), f"{name}: {begin} after {ends}"
            ends[name] = end
    found["rows"] = sum(file.rows for file in table.live_files().values())
    return found


class Up:
    """A `varve up` in a folder of its own."""

    def __init__(self, home, *arguments, output=None, **environment):
        self.home = home
        self.ports = [free_port() for _ in range(6)]
        kafka, controller, query, gateway, rules, notify = map(str, self.ports)
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "VARVE_KAFKA__PORT": kafka,
            "VARVE_KAFKA__CONTROLLER_PORT": controller,
            "VARVE_QUERY__PORT": query,
            "VARVE_GATEWAY__PORT": gateway,
            "VARVE_RULES__PORT": rules,
            "VARVE_NOTIFY__PORT": notify,
            "VARVE_TELEMETRY__PORT": "0",
            "VARVE_TELEMETRY__UP_PORT": "0",
            "VARVE_COLLECTOR__INTERVAL_S": "1",
            "VARVE_ROLLUP__GRACE_S": "1",
            **environment,
        }
        self.output = output or home.parent / f"{home.name}.out"
        with self.output.open("w") as file:
            self.process = subprocess.Popen(
                self._command("up", *arguments),
                env=self.environment,
                cwd=home.parent,
                stdout=file,
                stderr=file,
            )

    def _command(self, name, *arguments):
        return [sys.executable, "-m", "varve.cli", name, "--home", str(self.home), *arguments]

    def run(self, name, *arguments):
        return subprocess.run(
            self._command(name, *arguments),
            env=self.environment,
            cwd=self.home.parent,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )

    def said(self):
        return self.output.read_text()

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline, self.said()
            assert self.process.poll() is None, self.said()
            time.sleep(0.1)

    def until_ready(self):
        self.until(lambda: "Ready after" in self.said())

    def component(self, name):
        """What `varve up` says of a component."""
        status = json.loads((self.home / "run" / "up.status.json").read_text())
        return status["detail"]["components"][name]

    def is_well(self):
        """Whether all components run."""
        status = json.loads((self.home / "run" / "up.status.json").read_text())
        return all(one["state"] == "ready" for one in status["detail"]["components"].values())

    def metrics(self):
        """The page of `varve up` itself."""
        status = json.loads((self.home / "run" / "up.status.json").read_text())
        with urllib.request.urlopen(status["detail"]["metrics"], timeout=30) as answer:
            return answer.read().decode()

    def status(self):
        return json.loads(self.run("status", "--json").stdout)

    def ask(self, query):
        """What the query service answers."""
        text = urllib.parse.urlencode({"query": query})
        url = f"http://127.0.0.1:{self.ports[2]}/api/v1/query?{text}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]["result"]

    def get(self, path):
        """The data of an endpoint of the query service."""
        url = f"http://127.0.0.1:{self.ports[2]}/api/v1/{path}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def count(self):
        """Samples of node_time_seconds the query service gives."""
        return sum(len(series["values"]) for series in self.ask("node_time_seconds[1h]"))

    def targets(self):
        """Jobs of Varve's own that answer."""
        return {series["metric"]["job"] for series in self.ask('up{job=~"varve-.+"} == 1')}

    def end(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
