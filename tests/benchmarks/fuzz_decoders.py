"""Damaged bodies of every protocol but remote write, and damaged blocks of Prometheus: any bytes
are samples or a refusal, soon and in little memory.

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
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np
from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.benchmarks.fuzz_gateway import mutated
from tests.unit.gateway.decoding import Decoding, told
from varve.gateway.exposition.formats import OPEN_METRICS, PROTOBUF, TEXT
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.importing.tsdb.block import TsdbBlock
from varve.gateway.importing.tsdb.histogram_chunks import CutChunk, decode_histograms
from varve.gateway.importing.tsdb.index import DamagedBlock, Index
from varve.gateway.importing.tsdb.kernel_bits import CUT, crc32c
from varve.gateway.importing.tsdb.kernel_floats import decode_xor, decode_xor2
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.otlp.known_points import ExportReader, export_of
from varve.gateway.otlp.translation import translate
from varve.gateway.protobuf import delimited_field, write_varint
from varve.gateway.push import PushRequest
from varve.gateway.push_protocols.groups import Groups
from varve.gateway.push_protocols.influx import Influx
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.gateway.push_protocols.pushgateway import Pushgateway
from varve.gateway.refusals import Malformed, Refused
from varve.gateway.scrape.assembly import Assembly, ScrapeRefused
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.targets import Target
from varve.gateway.startup import make_ready
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.write_request import Message, WriteRequest

BLOCK = Path(__file__).parents[1] / "fixtures" / "tsdb" / "01JZ0000000000000000000000"
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
    reader = ExportReader(OtlpConfig(), None)
    cumulative = json.loads(
        json.dumps(_in_base64(_EXPORT)).replace('Temporality": 1', 'Temporality": 2')
    )
    known = ParseDict(cumulative, ExportMetricsServiceRequest()).SerializeToString()
    chunks = list(_chunks())
    index = (BLOCK / "index").read_bytes()
    folder = tempfile.TemporaryDirectory(prefix="fuzz-collect-")

    def compared(rng: random.Random) -> Message:
        """An export as read from memory, which must be as it is translated."""
        body = mutated(rng, known) if rng.random() < 0.8 else known
        try:
            expected = translate(export_of(body), OtlpConfig(), None)
        except Malformed:
            expected = None
        found = reader.read(body)
        assert expected is not None, "taken, though it is malformed"
        message = found.request.message()
        assert told(message) == told(expected.request.message()), body
        assert found.refusals == expected.refusals, body
        return message

    def indexed(rng: random.Random) -> Message:
        path = Path(folder.name) / "index"
        path.unlink(missing_ok=True)
        path.write_bytes(_with_checksums(mutated(rng, index)))
        for _ in Index(path).series():
            pass
        return WriteRequest().message()

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
        "otlp_known": compared,
        "text": lambda rng: exposed(rng, _TEXT, TEXT),
        "openmetrics": lambda rng: exposed(rng, _OPEN, OPEN_METRICS),
        "protobuf": lambda rng: exposed(rng, _FAMILY, PROTOBUF),
        "statsd": lines,
        "influx": lambda rng: pushed(Influx(lambda: NOW_MS), "/write", "", mutated(rng, _INFLUX)),
        "json": lambda rng: pushed(JsonSamples(), "/api/v1/push", as_json, mutated(rng, _JSON)),
        "pushgateway": lambda rng: pushed(
            push, f"/metrics/job/{rng.choice('ab')}", "", mutated(rng, _TEXT.replace(b" 170", b""))
        ),
        "chunks": lambda rng: _decoded(mutated(rng, rng.choice(chunks))),
        "index": indexed,
    }


def _chunks() -> Iterator[bytes]:
    """Encoding and content of chunks of every encoding."""
    data = (BLOCK / "chunks" / "000001").read_bytes()
    for series in TsdbBlock(BLOCK).index.series():
        for ref in series.chunks[:, 0].tolist():
            at, size, shift = ref & 0xFFFFFFFF, 0, 0
            while True:
                size |= (data[at] & 0x7F) << shift
                at, shift = at + 1, shift + 7
                if data[at - 1] < 0x80:
                    break
            yield data[at : at + 1 + size]


def _decoded(chunk: bytes) -> Message:
    """The histograms of a chunk; none of one of floats, which must be decoded all the same."""
    request = WriteRequest()
    if len(chunk) < 4:
        raise CutChunk("it is cut")
    data = np.frombuffer(chunk, np.uint8)
    encoding, count = chunk[0], chunk[1] << 8 | chunk[2]
    if encoding in (1, 4):
        times, values = np.empty(count, np.int64), np.empty(count, np.uint64)
        decode = decode_xor if encoding == 1 else decode_xor2
        assert decode(data, 1, len(data), times, values) in (count, CUT)
    elif encoding in (2, 3, 5, 6):
        has_starts = encoding > 4
        count &= 0x3FFF if has_starts else 0xFFFF
        is_float = encoding in (3, 6)
        for ts, histogram in decode_histograms(
            data, 1, len(data), count, is_float=is_float, has_starts=has_starts
        ):
            request.add([("__name__", "h")], histogram, ts)
    return request.message()


def _with_checksums(index: bytes) -> bytes:
    """An index with the checksums of its contents and symbols made right, if they can be."""
    found = bytearray(index)

    def seal(begin: int, end: int) -> None:
        if 0 <= begin <= end <= len(found) - 4:
            data = np.frombuffer(bytes(found), np.uint8)
            found[end : end + 4] = int(crc32c(data, begin, end)).to_bytes(4, "big")

    at = int.from_bytes(found[-52:-44], "big") + 4
    seal(at, at + int.from_bytes(found[at - 4 : at], "big"))
    seal(len(found) - 52, len(found) - 4)
    return bytes(found)


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
    except (Refused, InvalidExposition, ScrapeRefused, CutChunk, DamagedBlock):
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
