"""Damaged messages, and what must hold of every message: it is samples or a reason.

A message is a pair: its bytes and its header content-encoding. Equal seeds give equal messages.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import zstandard

from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, encoded, record
from varve.ingest import arrow_codec
from varve.ingest.decoded import Block
from varve.ingest.decoder import Decoder
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define

Message = tuple[bytes, str | None]

MAX_BYTES = 200_000
ENCODINGS = ("gzip", "zstd")

_SERIES = [define("cpu", {"host": str(n)}, metric_type="gauge") for n in range(5)]
_CLEAR = [
    as_json(record()),
    as_json(*(record(value=v, host='å\n"') for v in (1, None, "NaN", "-Inf", 1e-300))),
    as_json(record("2026-11-22T09:00:00Z") | {"type": "counter", "help": "h", "unit": "bytes"}),
    as_json(record(host="\ud83d\ude00", empty=""), record() | {"value": "Inf"}),
    b"\n".join(as_json(record(host=str(n))) for n in range(4)),
    b"\r\n\n".join([as_json(record()), b'{"metric":', as_json(record(1.5e9))]),
    b'\n  [{"metric":"m","value":1e400,"timestamp":-0.0,"tags":{"a":"\\ud800"}}]  ',
    b'{"metric":"m","tags":{"a":"b"},"type":"counter"}\n{"metric":"m","tags":null}',
    as_arrow([(s, NOW_MS + n, float(n)) for n in range(30) for s in _SERIES]),
    as_arrow([(s, NOW_MS, None) for s in _SERIES], defined=False),
    arrow_codec.write_definitions(_SERIES),
    # A stream without a batch, and one of two.
    as_arrow([], defined=False),
    b"\x00\x00\x00\x00\x01{}",
    as_json(*(record(stamp) for stamp in ("2026-13-40T00:00:00Z", "today", NOW_MS * 1000, 1e308))),
    as_json(record(value="many"), record(metric=""), record(__name__="m"), {"metric": "m"}),
]
_CLEAR += [
    b'{"fields":{"value":1,"b":true,"c":"x"},"name":"cpu","tags":{"h":"a"},"timestamp":1.5e9}',
    b'{"metrics":[{"fields":{"a":1},"name":"m","timestamp":0},{"name":"n","fields":{}}]}',
    (
        b'{"labels":{"__name__":"up","a":"b"},"name":"up","timestamp":"2026-11-22t09:00:60z",'
        b'"value":"1e+06"}'
    ),
    b"\xef\xbb\xbf" + as_json(record()) * 3 + b"[" + as_json(record(), record()) + b"]",
]
_BOMBS = [b" " * 20_000_000, b"[" + b"0," * 5_000_000, arrow_codec.MAGIC + bytes(10_000_000)]
TOKENS = [
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\u", b"\n", b"\r", b"\x00", b" "),
    *(b"null", b"NaN", b'"NaN"', b"1e999", b"-", b"1e14", b"\xff\xff\xff\xff", b"\xed\xa0\x80"),
    *(b'{"metric":', b'"fields":{', b'"labels":{', b'"metrics":[', b'"name":', b"}}", b"},{"),
    *(b'"metric":', b'"tags":{', b'"__name__":"x"', b'"timestamp":', b'"value":', b'"type":'),
]


def corpus() -> list[Message]:
    """Good and bad messages of every form, to be damaged."""
    found: list[Message] = [(body, None) for body in _CLEAR]
    found += [(_compress(body, name), name) for body in _CLEAR for name in ENCODINGS]
    found += [(_compress(body, name), name) for body in _BOMBS for name in ENCODINGS]
    found += [(body, None) for body in _odd_streams()]
    return [*found, (b"", None), (_CLEAR[0], "br")]


def mutate(chance: random.Random, among: Sequence[Message]) -> Message:
    """One of the messages, damaged; a compressed one before or after its compression."""
    body, encoding = chance.choice(among)
    if encoding in ENCODINGS and chance.random() < 0.7 and (clear := _expand(body, encoding)):
        damaged = _damage(chance, clear, among)
        return _compress(damaged, encoding), encoding
    if chance.random() < 0.02:
        encoding = chance.choice([None, "gzip", "zstd", "GZIP", "identity", ""])
    return _damage(chance, body, among), encoding


def check(decoder: Decoder, message: Message, max_bytes: int = MAX_BYTES) -> list[str]:
    """Decodes it as samples and as definitions; what both came to, in short and without numbers.

    AssertionError if something is neither, or is refused and then stored by itself, unchanged.
    """
    body, encoding = message
    kinds = []
    for decode in (decoder.samples, decoder.definitions):
        block = decode(body, max_bytes, encoded(encoding))
        _require_whole(block, body)
        for reject in block.rejects:
            again = decode(reject.value, max_bytes, reject.headers)
            assert not len(again), (reject, again)
            assert not again.definitions, (reject, again)
        outcomes = sorted({f"{r.reason} {_form(r.detail)}" for r in block.rejects})
        kinds.append(
            f"{min(len(block), 2)} {min(len(block.definitions), 2)} {min(len(block.rejects), 3)}"
            f" {outcomes[:2]}"
        )
    return kinds


def _require_whole(block: Block, body: bytes) -> None:
    size = len(block.ts)
    assert not block.owners or len(block.owners) == size
    # Reads every value: a column that points outside of its message would end the process.
    for column in (block.series_ids, block.checks, block.ts, block.values):
        assert len(column.tobytes()) == size * column.itemsize
    for reject in block.rejects:
        assert isinstance(reject.reason, Reason)
        assert reject.detail.encode()
        assert reject.samples >= 1
    if body and not size and not block.definitions and not block.rejects:
        # Nothing came of it: only an empty array or an Arrow stream without rows is that.
        assert body.startswith(arrow_codec.MAGIC) or b"[" in body or body[:1] in b"\x1f\x28", body


def _damage(chance: random.Random, body: bytes, among: Sequence[Message]) -> bytes:
    message = bytearray(body[: 2 * MAX_BYTES])
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(message) + 1)
        match chance.randrange(8):
            case 0:
                message[at : at + chance.randint(1, 20)] = b""
            case 1:
                message[at:at] = chance.choice(TOKENS) * chance.randint(1, 3)
            case 2:
                message[at : at + 1] = chance.randbytes(1)
            case 3:
                other = chance.choice(among)[0] or b"{}"
                start = chance.randrange(len(other))
                message[at:at] = other[start : start + chance.randint(1, 200)]
            case 4:
                number = chance.choice([0, 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1])
                size = chance.choice([4, 8])
                message[at : at + size] = number.to_bytes(8, "little")[:size]
            case 5:
                if at < len(message):
                    message[at] ^= 1 << chance.randrange(8)
            case 6:
                del message[at:]
            case 7 if chance.random() < 0.05:
                # Long and of one kind, which is where time that grows too fast shows.
                piece = bytes(message[at : at + chance.randint(1, 100)]) or b"["
                message[at:at] = piece * min(3_000, 150_000 // len(piece))
    return bytes(message)


def _odd_streams() -> Iterator[bytes]:
    """Arrow as the libraries can write it, and no producer of ours does."""
    sound = pa.ipc.open_stream(_CLEAR[8]).read_next_batch()
    yield _stream(sound.slice(0, 70), sound.slice(70), sound.slice(0, 0))
    yield _stream(sound.slice(0, 0))
    for place in range(3):
        columns = sound.slice(0, 5).columns
        columns[place] = pa.array([1, None, 2, 3, 4], columns[place].type)
        yield _stream(pa.record_batch(columns, names=sound.schema.names))
    schema = arrow_codec.wire_schema("definitions")
    for tags in ([("a", None)], [("a", "b"), ("a", "c")], [("", "b")]):
        row = {"metric": "m", "tags": tags, "type": None, "unit": None, "help": None}
        yield _stream(pa.RecordBatch.from_pylist([row], schema))
    yield arrow_codec.write_definitions(_SERIES) + b"behind"
    yield arrow_codec.write_definitions(_SERIES) * 2


def _stream(*batches: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batches[0].schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return sink.getvalue().to_pybytes()


def _compress(body: bytes, encoding: str) -> bytes:
    if encoding == "gzip":
        return gzip.compress(body, 1, mtime=0)
    return zstandard.compress(body, 1)


def _expand(body: bytes, encoding: str) -> bytes | None:
    """None for a damaged or a long one."""
    if len(body) > 10_000:
        return None
    try:
        if encoding == "gzip":
            return gzip.decompress(body)
        return zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BYTES)
    except Exception:  # noqa: BLE001 - whatever the libraries raise for what was damaged
        return None


def _form(detail: str) -> str:
    """What was wrong, without what it was wrong with: the words before the first quotation."""
    return re.split(r"['\"`$\\0-9]", detail)[0][:60]
