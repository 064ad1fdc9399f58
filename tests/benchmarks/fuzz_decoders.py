"""Damaged bodies of every protocol but remote write: any bytes are samples or a refusal, soon and
in little memory.

    python tests/benchmarks/fuzz_decoders.py [--minutes 10] [--only otlp,text] [--seed N]

Prints what went wrong, and exits 1 if anything did. A seed gives the same bodies again.
"""

# ruff: noqa: T201 - what it prints is its output; its chances are no secret

from __future__ import annotations

import argparse
import base64
import json
import random
import resource
import struct
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.benchmarks.fuzz_gateway import mutated
from tests.unit.gateway.decoding import Decoding
from varve.gateway.exposition.formats import OPEN_METRICS, PROTOBUF, TEXT
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.push import PushRequest
from varve.gateway.push_protocols.groups import Groups
from varve.gateway.push_protocols.influx import Influx
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.gateway.push_protocols.pushgateway import Pushgateway
from varve.gateway.refusals import Refused
from varve.gateway.scrape.assembly import Assembly, ScrapeRefused
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.targets import Target
from varve.gateway.startup import make_ready
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.write_request import Message

MOST_BYTES = 1 << 22
BOUND_S = 2.0
BOUND_MIB = 1_024
NOW_MS = 1_795_740_000_000

_POINT = {
    "timeUnixNano": "1795739960000000000", "startTimeUnixNano": "1795739950000000000",
    "attributes": [{"key": "a.b", "value": {"stringValue": "ü"}}],
}  # fmt: skip
_EXPORT = {
    "resourceMetrics": [
        {
            "resource": {"attributes": [{"key": "service.name", "value": {"stringValue": "s"}}]},
            "scopeMetrics": [
                {
                    "metrics": [
                        {
                            "name": "g",
                            "unit": "By/s",
                            "gauge": {"dataPoints": [_POINT | {"asInt": "7"}]},
                        },
                        {
                            "name": "c",
                            "sum": {
                                "dataPoints": [_POINT | {"asDouble": 1.5}],
                                "isMonotonic": True,
                                "aggregationTemporality": 1,
                            },
                        },
                        {
                            "name": "h",
                            "histogram": {
                                "dataPoints": [
                                    _POINT
                                    | {
                                        "count": "3", "sum": 2.5, "bucketCounts": ["1", "2"],
                                        "explicitBounds": [1.0],
                                        "exemplars": [{"asDouble": 0.5, "traceId": "ab" * 16}],
                                    }
                                ],
                                "aggregationTemporality": 1,
                            },
                        },
                        {
                            "name": "e",
                            "exponentialHistogram": {
                                "dataPoints": [
                                    _POINT
                                    | {
                                        "scale": 9, "count": "3", "zeroCount": "1",
                                        "positive": {"offset": -2, "bucketCounts": ["1", "0", "1"]},
                                    }
                                ],
                                "aggregationTemporality": 2,
                            },
                        },
                    ]
                }
            ],
        }
    ]
}  # fmt: skip
_TEXT = (
    b"# HELP a Help \\\\ \\n.\n# TYPE a histogram\n"
    b'a_bucket{le="0.5"} 1\na_bucket{le="+Inf"} 2 170\n'
    b'{"b.c","l.m"="\xc3\xbc\\"x"} -1.5e3\nnan{} NaN\n'
)
_OPEN = (
    b'# TYPE a counter\n# UNIT a_s s\na_total{x="1"} 1 170.5 # {t="i"} 0.5 1\n'
    b'a_created{x="1"} 5\n# EOF\n'
)
_NATIVE = (
    b"\x08\x03\x11" + struct.pack("<d", 7.25) + b"\x28\x06\x31" + struct.pack("<d", 1e-128)
    + b"\x38\x01" + delimited_field(12, b"\x08\x00\x10\x02") + delimited_field(13, b"\x02\x00")
)  # fmt: skip
_LABEL = delimited_field(1, delimited_field(1, b"a") + delimited_field(2, b"b"))
_METRIC = delimited_field(4, _LABEL + delimited_field(7, _NATIVE))
_FAMILY = delimited_field(1, b"n") + b"\x18\x04" + _METRIC
_FAMILY = write_varint(len(_FAMILY)) + _FAMILY
_STATSD = b"a.b:1:2|c|@0.5|#env:prod,x\nb:+3|g\nc:320|ms|c:id|T17\nd:u|s\n_e{1,1}:a|b\n"
_INFLUX = b'm\\ x,t=a\\,b f=1i,g="x \\" y",h=t 1795740000000000000\n# c\nn v=2u\n'
_JSON = b'{"metric":"a","value":1.5,"timestamp":1795740000,"tags":{"x":"1"}}\n[{"metric":"b"}]'


def decoders() -> dict[str, Callable[[random.Random], Message]]:
    """By protocol, what reads a damaged body of it. Raises Refused and its like."""
    otlp = OtlpHttp(OtlpConfig(), DeltaTotals(lambda: 0.0, most=1_000))
    protobuf = ParseDict(_in_base64(_EXPORT), ExportMetricsServiceRequest()).SerializeToString()
    assembly = Assembly(ScrapeConfig(job_name="j"), Target("http://x/m", {"job": "j"}, {}, 1, 1))
    statsd = Aggregation(most=1_000)
    groups = Groups(1_000)

    def pushed(protocol: object, path: str, kind: str, body: bytes) -> Message:
        head = protocol.begin(PushRequest("POST", path, content_type=kind))  # type: ignore[attr-defined]
        return head.message(body, MOST_BYTES)

    def exposed(rng: random.Random, body: bytes, kind: str) -> Message:
        found = assembly.read(mutated(rng, body), kind)
        return assembly.take(found, NOW_MS, 0.1, len(body))[0].message()

    def lines(rng: random.Random) -> Message:
        statsd.take(mutated(rng, _STATSD), NOW_MS)
        return statsd.flush(NOW_MS).message()

    push = Pushgateway(groups, lambda: NOW_MS)
    as_json = "application/json"
    return {
        "otlp": lambda rng: otlp.read(mutated(rng, protobuf)),
        "otlp_json": lambda rng: pushed(
            otlp, "/v1/metrics", as_json, mutated(rng, json.dumps(_EXPORT).encode())
        ),
        "text": lambda rng: exposed(rng, _TEXT, TEXT),
        "openmetrics": lambda rng: exposed(rng, _OPEN, OPEN_METRICS),
        "protobuf": lambda rng: exposed(rng, _FAMILY, PROTOBUF),
        "statsd": lines,
        "influx": lambda rng: pushed(Influx(lambda: NOW_MS), "/write", "", mutated(rng, _INFLUX)),
        "json": lambda rng: pushed(JsonSamples(), "/api/v1/push", as_json, mutated(rng, _JSON)),
        "pushgateway": lambda rng: pushed(
            push, f"/metrics/job/{rng.choice('ab')}", "", mutated(rng, _TEXT.replace(b" 170", b""))
        ),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--only", type=lambda text: text.split(","))
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    make_ready()
    print(f"seed {args.seed}", flush=True)
    rng = random.Random(args.seed)
    chosen = {name: d for name, d in decoders().items() if not args.only or name in args.only}
    ends = time.monotonic() + args.minutes * 60
    outcomes: Counter[tuple[str, str]] = Counter()
    wrong: list[tuple[str, str]] = []
    slowest = 0.0
    decoding = Decoding()
    while time.monotonic() < ends and len(wrong) < 5:
        for name, read in chosen.items():
            begun = time.thread_time()
            outcome = judge(decoding, read, rng)
            took = time.thread_time() - begun
            slowest = max(slowest, took)
            if took > BOUND_S:
                outcome = f"{took:.1f} s"
            if outcome not in ("taken", "refused"):
                wrong.append((name, outcome))
            outcomes[name, outcome] += 1
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for name in chosen:
        counts = {o: n for (of, o), n in outcomes.items() if of == name}
        print(f"{name:<14}{counts}")
    print(f"slowest {slowest * 1000:.0f} ms, peak {peak} MiB")
    for name, why in wrong:
        print(f"WRONG {name}: {why}")
    return 1 if wrong or peak > BOUND_MIB else 0


def judge(decoding: Decoding, read: Callable[[random.Random], Message], rng: random.Random) -> str:
    """taken, refused, or what is wrong: also what the road would make of it."""
    try:
        message = read(rng)
    except (Refused, InvalidExposition, ScrapeRefused):
        return "refused"
    except Exception as err:  # noqa: BLE001 - that is what is looked for
        return f"{type(err).__name__}: {err}"
    try:
        found = decoding.decode(message.content.tobytes(), message.version)
    except Refused as refused:
        return f"the road refuses: {refused}"
    if found.samples + found.derived != decoding.columns.rows:
        return f"{found.samples} samples and {decoding.columns.rows} rows"
    return "taken"


def _in_base64(export: object) -> object:
    """The export with ids as protobuf's JSON has them."""
    text = json.dumps(export).replace(
        "ab" * 16, base64.b64encode(bytes.fromhex("ab" * 16)).decode()
    )
    return json.loads(text)


if __name__ == "__main__":
    sys.exit(main())
