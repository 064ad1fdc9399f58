"""A bulk backlog of 50 M samples: how fresh critical samples stay, how much memory draining takes.

    python tests/benchmarks/backlog.py [--samples 50000000]

The streams of `varve up` run, all queries in one JVM, with nothing but a critical sample every
quarter of a second, for --idle seconds; then they are stopped, the backlog is sent, and they are
started again. Freshness is from producing a critical sample to the commit in the table samples
that holds it. Fails unless p50 and p99 stay within twice the idle ones plus one trigger, memory
under 6 GiB, and every sample is stored.
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

from firehose import Firehose, series_of
from live import BULK, Live, Watch, quantile, say

GIB = 2**30
STEP_MS = 10_000
# A JVM's first batches are slow, whatever waits: they are not counted, of either phase.
WARM_S = 15


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=int, default=50_000_000)
    parser.add_argument("--series", type=int, default=100_000)
    parser.add_argument("--idle", type=float, default=45, help="seconds")
    parser.add_argument("--after", type=float, default=20, help="seconds watched once drained")
    parser.add_argument("--scratch", type=Path, help="folder for broker and tables")
    args = parser.parse_args()
    # Asked to end, it ends what it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    folder = Path(tempfile.mkdtemp(prefix="backlog-", dir=args.scratch))
    live = Live(folder)
    try:
        good = run(live, args)
    finally:
        live.close()
    shutil.rmtree(folder)
    return 0 if good else 1


def run(live: Live, args: argparse.Namespace) -> bool:
    live.start()
    watch = Watch(live)
    time.sleep(WARM_S + args.idle)
    idle = watch.ages_between(time.time() - args.idle, time.time())
    watch.stop()
    live.stop()
    say(f"idle: {ages(idle)}")

    hose = Firehose(live.servers, BULK, series_of(100, args.series))
    steps = args.samples // args.series
    begin_ms = int(time.time() * 1000) - steps * STEP_MS
    begun = time.monotonic()
    while hose.sent < args.samples:
        hose.send(begin_ms + hose.sent // args.series * STEP_MS)
    hose.close()
    say(f"backlog: {hose.sent:,} samples sent in {time.monotonic() - begun:.0f} s")

    live.start()
    ready = time.time()
    watch = Watch(live)
    watch.sent = hose.sent
    watch.await_taken(hose.sent, 900)
    drained = time.time()
    busy = watch.ages_between(ready + WARM_S, drained)
    cold = watch.ages_between(ready, ready + WARM_S)
    time.sleep(args.after)
    watch.stop()
    say(f"draining: {drained - ready:.0f} s, {hose.sent / (drained - ready) / 1e6:.2f} M samples/s")
    sizes = [samples for _, query, samples in watch.seen.batches if query == "bulk"]
    say(f"bulk batches: {len(sizes)}, of up to {max(sizes):,} samples")
    say(f"critical, first {WARM_S} s after the start: {ages(cold)}")
    say(f"critical while draining: {ages(busy)}")
    say(f"critical once drained: {ages(watch.ages_between(drained, time.time()))}")
    peaks = ", ".join(f"{k} {watch.peak(k) / GIB:.2f}" for k in ("jvm", "python", "broker"))
    together = watch.peak_together()
    say(
        f"memory, GiB: RSS at most {together / GIB:.2f} together ({peaks});"
        f" PSS {watch.peak('pss') / GIB:.2f}"
    )
    trigger = live.settings.ingest.trigger_s
    good = True
    for q in (0.5, 0.99):
        bound = 2 * quantile(idle, q) + trigger
        within = quantile(busy, q) <= bound
        good &= within
        say(f"p{q * 100:.0f} {quantile(busy, q):.2f} s, bound {bound:.2f} s: {verdict(within)}")
    good &= together < 6 * GIB
    say(f"memory under 6 GiB: {verdict(together < 6 * GIB)}")
    stored = watch.seen.stored["bulk"]
    good &= stored == hose.sent
    say(f"stored {stored:,} of {hose.sent:,}: {verdict(stored == hose.sent)}")
    return good


def ages(values: list[float]) -> str:
    return (
        f"p50 {quantile(values, 0.5):.2f} s, p99 {quantile(values, 0.99):.2f} s,"
        f" worst {values[-1]:.2f} s of {len(values)}"
        if values
        else "no sample"
    )


def verdict(within: bool) -> str:  # noqa: FBT001
    return "held" if within else "NOT HELD"


if __name__ == "__main__":
    sys.exit(main())
