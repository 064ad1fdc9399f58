"""`varve up` under a steady flow, with a fault every few minutes; nothing may need a hand.

    python tests/benchmarks/soak_live.py [--minutes 60] [--rate 20000] [--only kill,disk]

Runs the real platform against a broker of its own, 5 % of the samples late. In turn each component
is killed (-9) and stopped for half a minute (SIGSTOP), the broker is killed and stays away, the
object store that has the tables answers 500 and 503 or hangs, and the disk fills up. Where the
object store is left out (--only disk), the tables are on that disk, too. After each fault it waits
until the components are ready and the lag is gone, and prints how long that took. At the end every
sample sent must be stored, merged or rejected, each offset read once, and the rollup rows are
recomputed.

Needs root for the small disk (a tmpfs mount); without it that fault is left out, and it says so.
Clocks that step are in tests/integration/ingest, with an injected clock: libfaketime breaks poll().
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

import psutil  # noqa: E402

from tests.faulty_s3 import FaultyS3  # noqa: E402
from varve.kafka.topics import TopicPlan, ensure_topics  # noqa: E402
from varve.local.broker import MAX_MESSAGE_BYTES, Broker, free_port  # noqa: E402
from varve.model.errors import VarveError  # noqa: E402
from varve.rollups.completeness import CompletenessReader  # noqa: E402
from varve.services.progress import lags  # noqa: E402
from varve.services.status import read_status  # noqa: E402
from varve.settings import load  # noqa: E402
from varve.storage.log import entries  # noqa: E402
from varve.storage.store import Store  # noqa: E402
from varve.storage.table import Table  # noqa: E402

TOPICS = ("raw-metrics", "raw-metrics-critical", "metric-series")
COMPONENTS = ("streams", "query", "collector", "maintenance", "rules", "notify")
RECOVERY_S = 600
REPAIRS_S = 3_600
SMALL_DISK = "6g"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--series", type=int, default=20_000)
    parser.add_argument("--late", type=float, default=0.05)
    parser.add_argument("--every", type=float, default=60, help="seconds from fault to fault")
    parser.add_argument("--away", type=float, default=10, help="minutes that the broker is gone")
    parser.add_argument(
        "--outage", type=float, default=5, help="minutes that the object store answers nothing else"
    )
    parser.add_argument("--only", default="", help="kinds of faults: kill,stop,broker,s3,disk")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, Soak(args, Path(folder)) as soak:
        return soak.run()


class Soak:
    def __init__(self, args: argparse.Namespace, folder: Path) -> None:
        self.args, self.folder = args, folder
        self.home = folder / "disk" / "home"
        self.begun = time.monotonic()
        self.wrong: list[str] = []
        self.recovered: list[tuple[str, float]] = []

    def __enter__(self) -> Self:
        self.stack = contextlib.ExitStack()
        self.small_disk = self._mount()
        self.s3 = self.stack.enter_context(FaultyS3()) if self._wanted("s3") else None
        self.broker = Broker(self.folder / "kafka", heap_mb=512, port=free_port())
        self.broker.start()
        self.stack.callback(self.broker.stop)
        self._make_topics()
        self.environment = os.environ | {
            "PYTHONPATH": str(ROOT / "pipelines"),
            "VARVE_CONFIG": str(self._write_config()),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": self.broker.bootstrap_servers,
            "VARVE_QUERY__PORT": str(free_port()),
            "VARVE_RULES__PORT": str(free_port()),
            "VARVE_NOTIFY__PORT": str(free_port()),
            "VARVE_TELEMETRY__PORT": str(free_port()),
            "VARVE_TELEMETRY__UP_PORT": str(free_port()),
        }
        self.home.mkdir(parents=True)
        self.settings, _ = load(env=self.environment | {"VARVE_HOME": str(self.home)})
        self.up = self._start_up()
        self.stack.callback(self._stop_up)
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def run(self) -> int:
        if self._await("start") is None:
            self._print()
            return 1
        self.flow = self._start_flow()
        self.stack.callback(lambda: self.flow.poll() is None and self.flow.kill())
        deadline = time.monotonic() + self.args.minutes * 60
        faults = list(self._faults())
        round_ = 0
        while time.monotonic() < deadline and faults:
            name, fault = faults[round_ % len(faults)]
            round_ += 1
            self.say(f"fault {round_}: {name}")
            began = time.monotonic()
            with fault():
                pass
            held = time.monotonic() - began
            took = self._await(name)
            if took is None:
                break
            self.recovered.append((name, took))
            self.say(f"  held {held:.0f} s, recovered {took:.0f} s after it")
            time.sleep(max(0.0, min(self.args.every, deadline - time.monotonic())))
        return self._finish()

    # Faults: each begins, holds and ends inside its block.

    def _faults(
        self,
    ) -> Iterator[tuple[str, Callable[[], contextlib.AbstractContextManager[None]]]]:
        wanted = self._wanted
        for name in COMPONENTS:
            if wanted("kill"):
                yield f"kill -9 {name}", lambda name=name: self._killed(name)
            if wanted("stop"):
                yield f"SIGSTOP {name} for 30 s", lambda name=name: self._stopped(name, 30)
        if wanted("broker"):
            yield "kill -9 broker", lambda: self._broker_gone(5)
            yield (
                f"broker gone {self.args.away:g} min",
                lambda: self._broker_gone(self.args.away * 60),
            )
        if self.s3 is not None:
            minutes = self.args.outage
            yield f"object store gone {minutes:g} min", lambda: self._s3_faulty(1.0, minutes * 60)
            yield "object store fails half the time", lambda: self._s3_faulty(0.5, 60)
        if wanted("disk"):
            if self.small_disk:
                yield "disk full for 60 s", lambda: self._disk_full(60)
            else:
                self.say("LEFT OUT: the disk cannot be filled without a mount of its own (root)")

    @contextlib.contextmanager
    def _killed(self, name: str) -> Iterator[None]:
        killed = self._pid(name)
        os.kill(killed, signal.SIGKILL)
        deadline = time.monotonic() + RECOVERY_S
        while self._pid(name) == killed and time.monotonic() < deadline:
            time.sleep(0.1)  # until another has taken its place
        yield

    @contextlib.contextmanager
    def _stopped(self, name: str, seconds: float) -> Iterator[None]:
        top = psutil.Process(self._pid(name))
        family = [top, *top.children(recursive=True)]
        for process in family:
            process.suspend()
        time.sleep(seconds)
        for process in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        yield

    @contextlib.contextmanager
    def _broker_gone(self, seconds: float) -> Iterator[None]:
        self.broker.kill()
        time.sleep(seconds)
        self.broker.start()
        yield

    @contextlib.contextmanager
    def _s3_faulty(self, share: float, seconds: float) -> Iterator[None]:
        requests, faults = self.s3.requests, self.s3.faults.total()
        self.s3.failing = share
        time.sleep(seconds)
        self.s3.failing = 0.0
        self.say(
            f"  {self.s3.faults.total() - faults} of {self.s3.requests - requests} requests failed"
        )
        yield

    @contextlib.contextmanager
    def _disk_full(self, seconds: float) -> Iterator[None]:
        filler = self.home.parent / "filler"
        with filler.open("wb") as out, contextlib.suppress(OSError):
            while True:
                out.write(b"\0" * 2**20)
                out.flush()
        time.sleep(seconds)
        filler.unlink()
        yield

    # What runs

    def _wanted(self, kind: str) -> bool:
        return not self.args.only or kind in self.args.only.split(",")

    def _write_config(self) -> Path:
        path = self.folder / "varve.toml"
        lines = ["[storage]", f'root = "{self.s3.root}"', "[storage.options]"] if self.s3 else []
        lines += [f'{k} = "{v}"' for k, v in self.s3.options.items()] if self.s3 else []
        path.write_text("\n".join(lines))
        return path

    def _store(self) -> Store:
        return Store(self.settings.storage_root(), self.settings.storage_options())

    def _mount(self) -> bool:
        disk = self.home.parent
        disk.mkdir()
        if os.geteuid() != 0:
            return False
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(disk)], check=False
        )
        if mounted.returncode:
            return False
        self.stack.callback(lambda: subprocess.run(["umount", "-l", str(disk)], check=False))
        return True

    def _make_topics(self) -> None:
        from kafka import KafkaAdminClient

        admin = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(n, 4, message_bytes=MAX_MESSAGE_BYTES) for n in TOPICS])
        admin.close()

    def _start_up(self) -> subprocess.Popen[bytes]:
        log = self.stack.enter_context((self.folder / "up.log").open("wb"))
        return subprocess.Popen(
            [sys.executable, "-m", "varve.cli", "up", "--home", str(self.home)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )

    def _stop_up(self) -> None:
        if self.up.poll() is None:
            self.up.terminate()
            self.up.wait(180)

    def _start_flow(self) -> subprocess.Popen[str]:
        command = [sys.executable, str(ROOT / "tests/benchmarks/flow.py")]
        options = {
            "--brokers": self.broker.bootstrap_servers,
            "--topic": TOPICS[0],
            "--rate": self.args.rate,
            "--series": self.args.series,
            "--late": self.args.late,
            "--history": 100 if self.args.late else 0,
            "--late-days": 5,
        }
        command += [str(part) for pair in options.items() for part in pair]
        return subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _pid(self, name: str) -> int:
        return read_status(self.home)[name].pid

    def _await(self, what: str) -> float | None:
        """Seconds until all is well again; None, and noted as wrong, if that takes too long."""
        began, why = time.monotonic(), ""
        while time.monotonic() - began < RECOVERY_S:
            if self.up.poll() is not None:
                self.wrong.append(f"{what}: varve up ended with {self.up.returncode}")
                return None
            why = self._trouble()
            if not why:
                return time.monotonic() - began
            time.sleep(1)
        self.wrong.append(f"{what}: not well after {RECOVERY_S} s: {why}")
        return None

    def _trouble(self) -> str:
        """What is not as it should be; empty if all is well."""
        statuses = read_status(self.home)
        for name in COMPONENTS:
            if name not in statuses or statuses[name].state != "ready":
                return f"{name} is {statuses[name].state if name in statuses else 'not there'}"
            if not psutil.pid_exists(statuses[name].pid):
                return f"{name} is gone"
        try:
            behind = sum(lag.messages for lag in lags(self.settings))
        except (VarveError, OSError) as err:
            return f"lag is unknown: {err}"
        return f"{behind} messages behind" if behind > max(50, self.args.rate // 100) else ""

    # The end

    def _finish(self) -> int:
        sent = None
        if self.flow.poll() is None:
            self.flow.stdin.close()
            lines = self.flow.stdout.read().splitlines()
            self.flow.wait(120)
            sent = next((int(line.split()[1]) for line in lines if line.startswith("sent ")), None)
        if sent is None:
            self.wrong.append("the flow ended by itself")
        elif not self.wrong:
            self._await_stored(sent)
            self._account(sent)
            self._await_repairs()
        self._stop_up()
        if not self.wrong:
            self._verify()
        self._print()
        return 1 if self.wrong else 0

    def _await_stored(self, sent: int) -> None:
        deadline = time.monotonic() + RECOVERY_S
        while self._taken()["flow"] < sent and time.monotonic() < deadline:
            time.sleep(2)

    def _await_repairs(self) -> None:
        """Until no late sample waits for its repair: then no row is left out of the check."""
        deadline = time.monotonic() + REPAIRS_S
        reader = CompletenessReader(self._store())
        while pending := [tier.tier.name for tier in reader.refresh() if tier.pending]:
            if time.monotonic() > deadline:
                self.wrong.append(f"late windows of {', '.join(pending)} are not repaired")
                return
            time.sleep(2)

    def _taken(self) -> Counter[str]:
        """Samples of the whole log of samples: what became of them; `flow` those of the flow."""
        store = self._store()
        version = Table(store, "samples").version
        found: Counter[str] = Counter()
        for entry in entries(store, "samples", -1, version):
            batch = entry.metadata
            if "in" not in batch:
                continue
            found["in"] += batch["in"]
            found["stored"] += batch["stored"]
            found["merged"] += batch["merged"]
            found["rejected"] += sum(batch["rejected"].values())
            self._check_offsets(entry.version, batch["offsets"])
        found["flow"] = found["in"] - self._collected()
        return found

    def _collected(self) -> int:
        record = read_status(self.home).get("collector")
        return int(record.detail.get("samples", 0)) if record else 0

    def _check_offsets(self, version: int, offsets: dict[str, list[int]]) -> None:
        ends = self.__dict__.setdefault("ends", {})
        if version in ends.setdefault("versions", set()):
            return
        ends["versions"].add(version)
        for name, (start, end) in offsets.items():
            if name in ends and ends[name] != start:
                self.wrong.append(f"{name}: offsets {ends[name]} to {start} were read twice or not")
            ends[name] = end

    def _account(self, sent: int) -> None:
        taken = self._taken()
        self.say(f"sent {sent:,} by the flow; taken {dict(taken)}")
        if taken["in"] != taken["stored"] + taken["merged"] + taken["rejected"]:
            self.wrong.append("in = stored + merged + rejected does not hold")
        if taken["in"] < sent:
            self.wrong.append(f"{sent - taken['in']} samples are missing")

    def _verify(self) -> None:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "varve.cli",
                "rollup",
                "verify",
                "--from",
                "6d",
                "--home",
                str(self.home),
            ],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.say(done.stdout.strip())
        if done.returncode:
            self.wrong.append(f"rollup verify: {done.stdout[-500:]} {done.stderr[-500:]}")

    def _print(self) -> None:
        for name, took in self.recovered:
            print(f"{name:<32} {took:6.0f} s")
        for line in self.wrong:
            print(f"WRONG: {line}")
        if self.wrong:
            print((self.folder / "up.log").read_text(errors="replace")[-4_000:])

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.begun:6.0f} s  {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
