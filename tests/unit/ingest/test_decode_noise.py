"""Any bytes are samples or a reason: seeded noise, and mutations of good messages."""

import os
import random
import time
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, record
from varve.ingest import arrow_format
from varve.ingest.decode import Decoder
from varve.ingest.reasons import Reason
from varve.model.identity import define

# VARVE_FUZZ_S=600 fuzzes for ten minutes.
FUZZ_S = float(os.environ.get("VARVE_FUZZ_S", "3"))
MAX_BYTES = 200_000

_SERIES = [define("cpu", {"host": str(n)}) for n in range(5)]
CORPUS = [
    as_json(record()),
    as_json(*(record(value=v, host='å\n"') for v in (1, None, "NaN", "-Inf", 1e-300))),
    as_json(record("2026-11-22T09:00:00Z") | {"type": "counter", "help": "h", "unit": "bytes"}),
    b"\n".join(as_json(record(host=str(n))) for n in range(4)),
    as_arrow([(s, NOW_MS + n, float(n)) for n in range(30) for s in _SERIES]),
    as_arrow([(s, NOW_MS, None) for s in _SERIES], defined=False),
    arrow_format.write_definitions(_SERIES),
    b"\x00\x00\x00\x00\x01{}",
]
TOKENS = [
    b"{",
    b"}",
    b"[",
    b"]",
    b",",
    b":",
    b'"',
    b"\\",
    b"null",
    b"NaN",
    b"\xff\xff\xff\xff",
    b"\n",
    b"1e999",
]


def mutate(chance):
    message = bytearray(chance.choice(CORPUS))
    for _ in range(chance.randint(0, 6)):
        at = chance.randrange(len(message) + 1)
        match chance.randrange(5):
            case 0:
                message[at : at + chance.randint(1, 20)] = b""
            case 1:
                message[at:at] = chance.choice(TOKENS) * chance.randint(1, 3)
            case 2:
                message[at : at + 1] = chance.randbytes(1)
            case 3:
                other = chance.choice(CORPUS)
                start = chance.randrange(len(other))
                message[at:at] = other[start : start + chance.randint(1, 200)]
            case 4:
                message[at : at + 4] = chance.choice([0, 1, 2**31 - 1, 2**32 - 1]).to_bytes(
                    4, "little"
                )
    return bytes(message)


def check(decoder, message):
    for block in (decoder.samples(message, MAX_BYTES), decoder.definitions(message, MAX_BYTES)):
        assert len(block.series_ids) == len(block.checks) == len(block.ts) == len(block.values)
        assert not block.owners or len(block.owners) == len(block)
        for reject in block.rejects:
            assert isinstance(reject.reason, Reason)
            assert reject.detail.encode()
            assert reject.samples >= 1


@settings(deadline=None)
@given(st.binary(max_size=200) | st.binary(max_size=50).map(lambda b: arrow_format.MAGIC + b))
def test_noise_is_samples_or_a_reason(message):
    check(Decoder(), message)


def test_damaged_messages_are_samples_or_a_reason():
    decoder, seed = Decoder(), int(os.environ.get("VARVE_FUZZ_SEED", "1"))
    end = time.monotonic() + FUZZ_S
    while time.monotonic() < end:
        message = mutate(random.Random(seed))
        try:
            check(decoder, message)
        except BaseException:
            print(f"VARVE_FUZZ_SEED={seed}: {message!r}")  # noqa: T201
            raise
        seed += 1


@pytest.mark.parametrize(
    "message",
    [
        b"[" * 4_000_000,
        b'{"a":' * 700_000,
        b'"' + b'\\"' * 2_000_000,
        b'["' * 2_000_000,
        b"\n" * 4_000_000,
        b"{}\n" * 1_000_000,
        b"[" + b"{}," * 1_000_000,
        arrow_format.MAGIC + b"\x08" * 4_000_000,
    ],
    ids=["[", '{"a":', "one string", '["', "blank lines", "empty lines", "empty objects", "arrow"],
)
def test_long_nonsense_takes_little_time_and_memory(message):
    begun = time.process_time()
    Decoder().samples(message, 8 * 2**20)
    assert time.process_time() - begun < 5

    tracemalloc.start()
    Decoder().samples(message[:400_000], 8 * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 400_000
