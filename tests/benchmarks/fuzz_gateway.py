"""Damaged remote write, for minutes: any bytes are samples or a refusal, soon and in little memory.

    python tests/benchmarks/fuzz_gateway.py [--minutes 10] [--seed N] [--version 1|2]

Requests of both versions, mutated before and after compression; what the gateway takes of them is
compared with what protobuf's bindings read, where they read anything. Prints what went wrong, and
exits 1 if anything did. A seed gives the same bodies again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import random
import resource
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from google.protobuf.message import DecodeError

from tests.remote_writing import V1, V2, snappy, write_request, write_request_v2
from tests.unit.gateway.decoding import Decoding
from varve.gateway.negotiation import Version
from varve.gateway.refusals import Refused
from varve.gateway.snappy import expand
from varve.gateway.startup import make_ready

MOST_BYTES = 32 << 20
BOUND_S = 2.0
BOUND_MIB = 1_024
# A decoder remembers series: a new one now and then keeps what was forgotten from hiding faults.
BODIES_A_DECODER = 2_000


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    parser.add_argument("--version", type=int, choices=(1, 2), help="of remote write; else both")
    args = parser.parse_args()
    versions = [Version(args.version)] if args.version else list(Version)
    make_ready()
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    ends = time.monotonic() + args.minutes * 60
    outcomes: Counter[str] = Counter()
    wrong: list[tuple[str, Version, bytes]] = []
    slowest = 0.0
    while time.monotonic() < ends and len(wrong) < 5:
        decoding = Decoding()
        for _ in range(BODIES_A_DECODER):
            version = rng.choice(versions)
            body = mutated(rng, snappy(mutated(rng, request(rng, version))), 0.1)
            begun = time.thread_time()
            try:
                outcome = judge(decoding, body, version)
            except Exception as err:  # noqa: BLE001 - that is what is looked for
                outcome = f"{type(err).__name__}: {err}"
            took = time.thread_time() - begun
            slowest = max(slowest, took)
            if took > BOUND_S:
                outcome = f"{took:.1f} s"
            if outcome not in ("taken", "refused"):
                wrong.append((outcome, version, body))
            outcomes[outcome] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(f"{sum(outcomes.values()):,} bodies: {dict(outcomes.most_common(8))}")
    print(f"slowest {slowest * 1000:.0f} ms, peak {peak} MiB")
    for why, version, body in wrong:
        print(f"WRONG {why}\n  version {version}, body {body.hex()[:2000]}")
    return 1 if wrong or peak > BOUND_MIB else 0


def judge(decoding: Decoding, body: bytes, version: Version) -> str:
    """taken, refused, or what is wrong."""
    try:
        content = expand(body, MOST_BYTES).tobytes()
        found = decoding.decode(content, version)
    except Refused as refused:
        return "refused" if refused.status in (400, 413) else f"status {refused.status}"
    rows = decoding.columns.rows
    if found.samples + found.derived != rows:
        return f"{found.samples} samples and {rows} rows"
    kind = V1["WriteRequest"] if version is Version.V1 else V2["Request"]
    try:
        read = sum(len(one.samples) for one in kind.FromString(content).timeseries)
    except DecodeError:
        return "taken"  # bindings are stricter about text
    if found.received() != read:
        return f"{found.received()} samples, of which the bindings read {read}"
    return "taken"


def request(rng: random.Random, version: Version) -> bytes:
    """A request that is valid but for some odd labels."""
    series = []
    for _ in range(rng.randrange(1, 6)):
        labels = {"__name__": rng.choice(["a", "up", "é", ""])}
        labels |= {
            rng.choice(["job", "x", "{", "__replica__", "cluster"]): rng.choice(["", "v", "ü", '"'])
            for _ in range(rng.randrange(4))
        }
        points = [
            (rng.randrange(-(2**40), 2**60), rng.choice([0.0, 1.5, float("nan"), float("inf")]))
            for _ in range(rng.randrange(4))
        ]
        series.append((labels, points))
    if version is Version.V1:
        return write_request(series)
    return write_request_v2(series, rng.choice([0, 0, 5, -1]))


def mutated(rng: random.Random, body: bytes, chance: float = 0.7) -> bytes:
    found = bytearray(body)
    while found and rng.random() < chance:
        at = rng.randrange(len(found))
        what = rng.randrange(5)
        if what == 0:
            found[at] = rng.randrange(256)
        elif what == 1:
            del found[at : at + rng.randrange(1, 9)]
        elif what == 2:
            found[at:at] = found[at : at + rng.randrange(1, 30)]
        elif what == 3:
            found[at] ^= 1 << rng.randrange(8)
        else:
            found[at:at] = rng.randbytes(rng.randrange(1, 12))
    return bytes(found)


if __name__ == "__main__":
    sys.exit(main())
