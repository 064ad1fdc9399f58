"""A storm on the bulk topic: a hundred times the samples for a minute, then a million new series.

    python tests/benchmarks/storm.py [--rate 1000000] [--seconds 60] [--new-series 1000000]

The streams of `varve up` run, all queries in one JVM. 10,000 series send 10,000 samples a second;
then --rate a second for --seconds; then, at the normal rate again, a million new series of one
metric come as fast as Kafka takes them. Everything is encoded ahead. Prints how far ingest is
behind over time, how long it takes to catch up, memory, and what became of every sample; fails
unless stored = sent - refused, with nothing but new series beyond their limit refused.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from backlog import GIB, ages, verdict
from firehose import Firehose, series_of
from live import BULK, Live, Watch, say

from varve.cli.plot import plot
from varve.ingest.limits import parse
from varve.model.resources import conf_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

NORMAL_RATE = 10_000
SERIES = 10_000
# Behind by no more than this many seconds of the normal rate is caught up: batches take some.
CAUGHT_UP_S = 6
DEADLINE_S = 600


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rate", type=float, default=1_000_000, help="samples a second")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--normal", type=float, default=30, help="seconds before the storm")
    parser.add_argument("--new-series", type=int, default=1_000_000)
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="storm-", dir=args.scratch))
    live = Live(folder)
    try:
        good = Storm(live, args).run()
    finally:
        live.close()
    shutil.rmtree(folder)
    return 0 if good else 1


class Storm:
    def __init__(self, live: Live, args: argparse.Namespace) -> None:
        self.live, self.args = live, args
        self.known = Firehose(live.servers, BULK, series_of(10, SERIES))
        self.new = Firehose(live.servers, BULK, series_of(1, args.new_series, "exploding"))
        self.marks: list[tuple[str, float]] = []

    def run(self) -> bool:
        self.live.start()
        self.watch = Watch(self.live)
        self.phase("normal")
        self.send_normally(self.args.normal)
        self.phase("storm of samples")
        took = self.known.run(self.args.rate, self.args.seconds, self.now_ms, self.count)
        say(f"{self.known.sent:,} samples sent; the storm took {took:.0f} s")
        self.recover("the storm of samples")
        self.phase("storm of series")
        took = self.new.run(10**9, self.args.new_series / 10**9, self.now_ms, self.count)
        say(f"{self.new.sent:,} samples of as many new series sent in {took:.0f} s")
        self.recover("the storm of series")
        self.phase("after")
        self.send_normally(15)
        self.watch.await_taken(self.known.sent + self.new.sent, DEADLINE_S)
        self.phase("end")
        self.watch.stop()
        self.live.stop()
        self.report()
        return self.judge()

    def send_normally(self, seconds: float) -> None:
        self.known.run(NORMAL_RATE, seconds, self.now_ms, self.count)

    def recover(self, storm: str) -> None:
        """The normal rate, until ingest has caught up with it."""
        begun = time.monotonic()
        while self.watch.lag[-1][1] > NORMAL_RATE * CAUGHT_UP_S:
            self.live.require_alive()
            assert time.monotonic() < begun + DEADLINE_S, self.watch.lag[-1]
            self.send_normally(1)
        say(f"caught up {time.monotonic() - begun:.0f} s after {storm} ended")

    def count(self) -> None:
        self.watch.sent = self.known.sent + self.new.sent

    def now_ms(self) -> int:
        return int(time.time() * 1000)

    def phase(self, name: str) -> None:
        self.marks.append((name, time.time()))

    def report(self) -> None:
        watch = self.watch
        start, end = self.marks[0][1], self.marks[-1][1]
        say("samples sent and not stored yet, over time:")
        for row in plot([watch.lag], start, end, 60, 100, 12, colour=False):
            say(row)
        for (name, begin), (_, until) in zip(self.marks, self.marks[1:], strict=False):
            lag = max((lag for at, lag in watch.lag if begin <= at < until), default=0)
            rss = [s for at, s in watch.rss if begin <= at < until]
            peaks = ", ".join(
                f"{kind} {max((s[kind] for s in rss), default=0) / GIB:.2f}"
                for kind in ("jvm", "python", "broker", "pss")
            )
            say(
                f"{name:17} {until - begin:4.0f} s, behind by at most {lag:12,.0f} samples;"
                f" GiB: {peaks}; critical {ages(watch.ages_between(begin, until))}"
            )
        say(f"together at most {watch.peak_together() / GIB:.2f} GiB resident")

    def judge(self) -> bool:
        seen, limits = self.watch.seen, parse((conf_dir() / "limits.toml").read_text(), "limits")
        refused = seen.rejected.total()
        sent = self.known.sent + self.new.sent
        quarantine = snapshot(self.live.store, "quarantine")
        rows = quarantine.scan(Bounds(), ["samples"]).num_rows
        size = sum(f.size for f in quarantine.files)
        say(f"quarantine: {rows:,} rows in {len(quarantine.files)} files, {size / 1e6:.2f} MB")
        say(f"refused: {dict(seen.rejected)}; merged copies {seen.merged:,}")
        may = limits.of("exploding_0").series
        series = snapshot(self.live.store, "series").scan(Bounds(), ["metric"]).column("metric")
        exploding = series.to_pylist().count("exploding_0")
        checks = {
            f"stored {seen.stored['bulk']:,} = sent {sent:,} - refused {refused:,}": (
                seen.stored["bulk"] == sent - refused
            ),
            f"{exploding:,} new series are registered, {may:,} may be": exploding
            == min(may, self.args.new_series),
            "refused are the new series beyond, once each": (
                dict(seen.rejected)
                == {"cardinality_limit": self.args.new_series - min(may, self.args.new_series)}
            ),
        }
        for text, held in checks.items():
            say(f"{text}: {verdict(held)}")
        return all(checks.values())


if __name__ == "__main__":
    sys.exit(main())
