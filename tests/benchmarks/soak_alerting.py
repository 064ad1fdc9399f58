"""Three evaluators and three notifiers, one of the six killed every 20 s, notifiers cut from each
other at times: who was told what, when, and how often.

    make soak-alerting ARGS="--minutes 30 --alerts 500 --keep FOLDER"

Kafka, Spark and the tables are those of a `varve up`; rules and notifiers are processes of their
own. Each alert is a series of its own that is high for a time that is known. Exits 1 if a beginning
or an end was not told within 30 s of its due time (the evaluation for its first sample, and
group_wait), one was told twice while the notifiers saw each other, an attempt was made again though
no notifier had died, the table has other changes than one beginning and one end of each, or the
recorded series has a gap, another value than its samples give, or, for --backtests of its slots,
another one than `varve rules backtest` gives as of the snapshot of the slot's claim.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.benchmarks.bench_alerting import NOTIFY
from tests.benchmarks.claimed_backtests import differing
from tests.benchmarks.cuttable_links import Proxy, cuttable
from tests.integration.local.up_process import Up
from tests.integration.rules.rules_process import RulesProcess
from varve.client import Producer
from varve.local.broker import free_port
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store

MEMBERS = 3
INTERVAL_S = 5
GROUP_WAIT_S = 1
LATE_S = 30.0
LASTS_S = (30.0, 60.0)
KILL_EVERY_S = 20.0
CUT_EVERY_S, CUT_S = 75.0, 15.0
AROUND_CUT_S = 20.0
"""After a cut heals notifiers still may tell what the other side told: the log has to arrive."""
AROUND_KILL_S = 10.0
"""What a notifier told as it died the next one tells again, 3 s later, or the one after that."""

RECORDED = "sum(probe)"
RULES = f"""
groups:
- name: probes
  interval: {INTERVAL_S}s
  rules:
  - record: probes:high
    expr: {RECORDED}
  - alert: ProbeHigh
    expr: probe > 0.5
"""


@dataclass
class Told:
    """What the receiver got: by (probe, status) the times, and the keys that were seen."""

    times: dict[tuple[str, str], list[float]] = field(default_factory=dict)
    keys: set[str] = field(default_factory=set)
    repeats: list[float] = field(default_factory=list)

    def note(self, key: str, message: dict) -> None:
        now_s = time.time()
        if key in self.keys:  # an attempt whose answer got lost: receivers know it by its key
            self.repeats.append(now_s)
            return
        self.keys.add(key)
        for alert in message["alerts"]:
            self.times.setdefault((alert["labels"]["probe"], alert["status"]), []).append(now_s)


class Notifier:
    """One of the notifiers, always on the same addresses and state."""

    def __init__(self, folder: Path, number: int, proxies: Sequence[Proxy], ports: list[int]):
        self.port = free_port()
        self._log = folder / f"notify{number}.log"
        peers = [f"--cluster.peer=127.0.0.1:{p.port}" for i, p in enumerate(proxies) if i != number]
        self._command = [
            *(sys.executable, "-m", "varve.cli", "serve", "notify"),
            f"--config.file={folder / 'notify.yml'}",
            f"--storage.path={folder / f'notify{number}'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
            f"--cluster.listen-address=127.0.0.1:{ports[number]}",
            f"--cluster.advertise-address=127.0.0.1:{proxies[number].port}",
            "--cluster.peer-timeout=3s",
            "--cluster.settle-timeout=15s",
            *peers,
        ]
        self.start()

    def start(self) -> None:
        with self._log.open("a") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=log)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n\n")[0])
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--alerts", type=int, default=500)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backtests", type=int, default=20, help="slots that are asked again")
    parser.add_argument("--keep", type=Path, help="leave logs, state and the account here")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    os.environ.setdefault("PYTHONPATH", os.pathsep.join(p for p in sys.path if p))
    told = Told()
    with kept_in(args.keep) as folder, hook(told) as url:
        return soak(folder, url, told, args)


def kept_in(folder: Path | None) -> contextlib.AbstractContextManager[Path]:
    """The folder that a run has its state in: one that goes with the run unless it is named."""
    if folder is None:
        return temporary()
    folder.mkdir(parents=True)
    return contextlib.nullcontext(folder.absolute())


@contextlib.contextmanager
def temporary() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="soak-alerting-") as name:
        yield Path(name)


def soak(root: Path, url: str, told: Told, args: argparse.Namespace) -> int:
    (root / "rules.yml").write_text(RULES)
    (root / "notify.yml").write_text(NOTIFY.format(wait=GROUP_WAIT_S, interval=1, url=url))
    up = Up(
        root / "home",
        **{
            f"VARVE_{name}__ENABLED": "false"
            for name in ("RULES", "NOTIFY", "COLLECTOR", "FORECASTS", "MAINTENANCE")
        },
    )
    started: list[RulesProcess | Notifier] = []
    try:
        up.until_ready()
        tables = up.home / "tables"
        with cuttable(MEMBERS) as (proxies, ports, call):
            notifiers = [Notifier(root, number, proxies, ports) for number in range(MEMBERS)]
            started += notifiers
            addresses = ",".join(f"http://127.0.0.1:{one.port}" for one in notifiers)
            rules = [
                RulesProcess(
                    root / f"rules{number}",
                    f"127.0.0.1:{up.ports[0]}",
                    str(tables),
                    RULES__FILES=root / "rules.yml",
                    RULES__NOTIFIERS=addresses,
                    RULES__RESEND_DELAY_S=10,
                )
                for number in range(MEMBERS)
            ]
            started += rules
            up.until(lambda: all(one.get("/-/healthy")[0] == 200 for one in rules))
            print("ready; sending", flush=True)
            probes, cuts, kills = drive(up, rules, notifiers, proxies, call, told, args)
        write_account(root / "account.json", probes, cuts, kills, told)
        return report(probes, cuts, kills, told, tables, args.backtests)
    finally:
        for one in started:
            one.kill()
        up.process.send_signal(signal.SIGTERM)
        try:
            up.process.wait(60)
        finally:
            up.end()


@dataclass
class Probe:
    """high_s and low_s: when its first high and its first low sample after that were made."""

    name: str
    high_s: float
    low_s: float


def drive(up, rules, notifiers, proxies, call, told, args):
    """Sends the probes, kills and cuts; returns the probes, the spans of cuts, and the kills."""
    rng = random.Random(args.seed)
    begin = time.time() + 30
    span_s = 60 * args.minutes
    probes = []
    for number in range(args.alerts):
        high_s = begin + rng.random() * (span_s - LASTS_S[1] - 30)
        probes.append(Probe(f"p{number}", high_s, high_s + rng.uniform(*LASTS_S)))
    members = [*rules, *notifiers]
    next_kill, next_cut, heal_s = begin + KILL_EVERY_S, begin + CUT_EVERY_S, None
    cuts, kills, dead = [], [], None
    with Producer(f"127.0.0.1:{up.ports[0]}", linger_ms=10, stale_markers=False) as producer:
        now_s = time.time()
        while now_s < begin + span_s:
            for probe in probes:
                high = probe.high_s <= now_s < probe.low_s
                producer.gauge("probe", float(high), {"probe": probe.name}, ts_ms=int(now_s * 1000))
            if dead is not None:
                dead.start()
                dead = None
            if now_s >= next_kill and now_s < begin + span_s - 40:
                dead = rng.choice(members)
                dead.kill()
                kills.append((now_s, members.index(dead)))
                next_kill += KILL_EVERY_S
            if heal_s is None and now_s >= next_cut:
                for proxy in proxies:
                    call(proxy.cut)
                cuts.append([now_s, 0.0])
                heal_s, next_cut = now_s + CUT_S, next_cut + CUT_EVERY_S
            elif heal_s is not None and now_s >= heal_s:
                for proxy in proxies:
                    proxy.is_cut = False
                cuts[-1][1], heal_s = now_s, None
            time.sleep(max(0.0, now_s + 1 - time.time()))
            now_s = time.time()
    deadline = time.monotonic() + 60
    while len(told.times) < 2 * len(probes) and time.monotonic() < deadline:
        time.sleep(0.5)
    return probes, cuts, kills


def write_account(path: Path, probes, cuts, kills, told: Told) -> None:
    """What was done and what was told, by Unix seconds; of kills also the place: rules first."""
    account = {
        "probes": [[p.name, p.high_s, p.low_s] for p in probes],
        "cuts": cuts,
        "kills": kills,
        "told": [[*key, times] for key, times in sorted(told.times.items())],
        "repeats": told.repeats,
    }
    path.write_text(json.dumps(account, indent=1))


def report(probes, cuts, kills, told: Told, tables: Path, backtests: int) -> int:
    store = Store(str(tables), {})
    delays, missing, twice, twice_cut = [], [], [], 0
    for probe in probes:
        for status, at_s in (("firing", probe.high_s), ("resolved", probe.low_s)):
            times = told.times.get((probe.name, status), [])
            # A sample is made each second; the first slot that can see it, and the group's wait.
            slot_s = ((at_s + 1) // INTERVAL_S + 1) * INTERVAL_S
            if not times:
                missing.append((probe.name, status))
                continue
            delays.append(times[0] - slot_s - GROUP_WAIT_S)
            for again in times[1:]:
                if is_excused(again, cuts):
                    twice_cut += 1
                else:
                    twice.append((probe.name, status, again - times[0]))
    # A process that died between the receiver's answer and its log tries again, with its key.
    died = [at_s for at_s, place in kills if place >= MEMBERS]
    again = [at_s for at_s in told.repeats if not is_excused(at_s, cuts)]
    unexplained = [at_s for at_s in again if not any(0 <= at_s - k <= AROUND_KILL_S for k in died)]
    delays.sort()
    written, gaps, wrong = recorded(store)
    asked, other = differing(tables, written, expr=RECORDED, interval_s=INTERVAL_S, most=backtests)
    odd = other_changes(store, probes)
    print(
        f"{len(probes)} alerts, {len(kills)} kills, {len(cuts)} cuts of {CUT_S:.0f} s:"
        f" {len(missing)} not told, {len(twice)} told twice, {twice_cut} in a cut,"
        f" {len(told.repeats)} attempts made again with their key, of these"
        f" {len(again) - len(unexplained)} after a notifier's death, {len(unexplained)} after none,"
        " the rest in a cut"
    )
    if delays:
        late = sum(delay > LATE_S for delay in delays)
        print(
            f"told after their due time: p50 {delays[len(delays) // 2]:.1f} s,"
            f" p99 {delays[int(len(delays) * 0.99)]:.1f} s, max {delays[-1]:.1f} s;"
            f" {late} over {LATE_S:.0f} s"
        )
    print(
        f"recorded: {len(written)} slots, {gaps} gaps, {wrong} values other than of the samples;"
        f" of {asked} backtests as of their claims {len(other)} differ; {other[:3]}"
    )
    print(f"table: {len(odd)} alerts with other changes than a beginning and an end; {odd[:3]}")
    print(f"not told: {missing[:5]}; twice: {twice[:5]}")
    is_well = (
        delays
        and delays[-1] <= LATE_S
        and not (missing or twice or unexplained or gaps or wrong or other or odd)
    )
    return 0 if is_well else 1


def is_excused(at_s: float, cuts: Sequence[Sequence[float]]) -> bool:
    """Whether notifiers were cut from each other then, or had just found each other again."""
    return any(begin <= at_s <= (end or at_s) + AROUND_CUT_S for begin, end in cuts)


def other_changes(store: Store, probes: Sequence[Probe]) -> list[tuple[str, list[str]]]:
    """Alerts of which the table has other changes than that it fired and was resolved."""
    states: dict[str, list[tuple[int, str]]] = {probe.name: [] for probe in probes}
    for row in snapshot(store, "alerts").scan(Bounds()).to_pylist():
        if not row["review"]:
            states[dict(row["labels"])["probe"]].append((row["evaluated_at"], row["state"]))
    expected = ["firing", "resolved"]
    found = [(name, [state for _, state in sorted(rows)]) for name, rows in states.items()]
    return [(name, changes) for name, changes in found if changes != expected]


def recorded(store: Store) -> tuple[dict[int, set[float]], int, int]:
    """The recorded series by slot, its gaps, and how many values its samples do not give."""
    series = snapshot(store, "series").scan(Bounds(), ("series_id", "metric")).to_pylist()
    ids = {
        name: {s["series_id"] for s in series if s["metric"] == name}
        for name in ("probe", "probes:high")
    }
    rows = snapshot(store, "samples").scan(Bounds(), ("series_id", "ts", "value")).to_pylist()
    written: dict[int, set[float]] = {}
    points: dict[int, list[tuple[int, float]]] = {}
    for row in rows:
        if row["series_id"] in ids["probes:high"] and row["value"] is not None:
            written.setdefault(row["ts"], set()).add(row["value"])
        elif row["series_id"] in ids["probe"]:
            points.setdefault(row["series_id"], []).append((row["ts"], row["value"]))
    slots = sorted(written)
    step_ms = INTERVAL_S * 1000
    gaps = sum((b - a) // step_ms - 1 for a, b in itertools.pairwise(slots))
    expected = dict.fromkeys(slots, 0.0)
    for found in points.values():
        found.sort()
        at = 0
        for slot in slots:
            while at < len(found) and found[at][0] <= slot:
                at += 1
            if at and slot - found[at - 1][0] < 300_000:
                expected[slot] += found[at - 1][1]
    wrong = sum(written[slot] != {expected[slot]} for slot in slots)
    return written, gaps, wrong


@contextlib.contextmanager
def hook(told: Told) -> Iterator[str]:
    """A receiver of webhooks; its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            told.note(self.headers["Idempotency-Key"], message)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Server(ThreadingHTTPServer):
        def handle_error(self, *_: object) -> None:
            """Says nothing of senders that were killed."""

    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


if __name__ == "__main__":
    sys.exit(main())
