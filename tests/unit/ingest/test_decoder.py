import gzip
import random
import tracemalloc

import pytest
import zstandard

from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, encoded, record
from varve.ingest import arrow_codec
from varve.ingest.decoder import Decoder
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define

MAX_BYTES = 100_000
SERIES = define("cpu", {})


def read(message, encoding=None):
    return Decoder().samples(message, MAX_BYTES, encoded(encoding))


def zstd(data, level=3):
    return zstandard.compress(data, level)


@pytest.mark.parametrize("message", [as_json(record()), as_arrow([(SERIES, NOW_MS, 1.0)])])
@pytest.mark.parametrize(
    ("encoding", "compress"),
    [(None, bytes), ("gzip", gzip.compress), ("GZIP", gzip.compress), ("zstd", zstd)],
)
def test_a_message_is_json_or_arrow_compressed_or_not(message, encoding, compress):
    block = read(compress(message), encoding)

    assert block.ts.tolist() == [NOW_MS]
    assert not block.rejects


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_several_members_are_one_message(encoding, compress):
    lines = [as_json(record(host=str(n))) + b"\n" for n in range(3)]

    assert len(read(b"".join(map(compress, lines)), encoding)) == 3


@pytest.mark.parametrize(("encoding", "compress"), [("gzip", gzip.compress), ("zstd", zstd)])
def test_a_bomb_is_refused_without_being_expanded(encoding, compress):
    bomb = compress(b" " * 50_000_000)
    assert len(bomb) < MAX_BYTES

    tracemalloc.start()
    block = read(bomb, encoding)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert [(r.reason, r.value) for r in block.rejects] == [(Reason.MESSAGE_TOO_LARGE, bomb)]
    assert peak < 20 * MAX_BYTES


@pytest.mark.parametrize(
    ("message", "encoding", "detail"),
    [
        (b"plain", "gzip", "not gzip"),
        (b"plain", "zstd", "not zstd"),
        (gzip.compress(as_json(record()), mtime=0)[:-20], "gzip", "ends too early"),
        (zstd(as_json(record()))[:3], "zstd", ""),
        (gzip.compress(b"", mtime=0), "gzip", "empty"),
        (as_json(record()), "br", "'br' is not gzip or zstd"),
        (None, None, "empty"),
        (b"", None, "empty"),
        (b"\x00\x00\x00\x00\x07" + as_json(record()), None, "schema registry"),
    ],
)
def test_what_is_of_no_known_form_is_refused_and_told_why(message, encoding, detail):
    block = read(message, encoding)

    (reject,) = block.rejects
    assert (len(block), reject.reason, reject.value) == (0, Reason.MALFORMED, message or b"")
    assert detail in reject.detail


def test_a_message_over_the_bound_is_refused():
    fits, exceeds = b" " * (MAX_BYTES - 2) + b"[]", b" " * (MAX_BYTES - 1) + b"[]"

    assert not read(fits).rejects
    assert [r.reason for r in read(exceeds).rejects] == [Reason.MESSAGE_TOO_LARGE]
    assert not read(gzip.compress(fits), "gzip").rejects
    assert [r.reason for r in read(gzip.compress(exceeds), "gzip").rejects] == [
        Reason.MESSAGE_TOO_LARGE
    ]


def test_definitions_may_be_json_or_arrow():
    decoder = Decoder()

    for message in (arrow_codec.write_definitions([SERIES]), b'{"metric":"cpu"}'):
        assert list(decoder.definitions(message, MAX_BYTES).definitions) == [SERIES]
    assert [r.reason for r in decoder.definitions(b"", MAX_BYTES).rejects] == [Reason.MALFORMED]


@pytest.mark.parametrize("checksum", [False, True])
def test_a_cut_body_is_refused_wherever_it_is_cut(checksum):
    chance = random.Random(1)
    lines = [as_json(record(host=chance.randbytes(20).hex())) + b"\n" for _ in range(60)]
    compressor = zstandard.ZstdCompressor(write_checksum=checksum)
    frames = [compressor.compress(b"".join(lines[n : n + 20])) for n in (0, 20, 40)]
    skipped = b"\x5a\x2a\x4d\x18\x04\x00\x00\x00skip"
    whole = frames[0] + skipped + frames[1] + frames[2]
    # Between two frames nothing tells that there were more.
    ends = {len(frames[0]), len(frames[0] + skipped), len(frames[0] + skipped + frames[1])}

    assert len(read(whole, "zstd")) == 60
    for cut in set(range(1, len(whole))) - ends:
        block = read(whole[:cut], "zstd")
        assert (len(block), [r.reason for r in block.rejects]) == (0, [Reason.MALFORMED])


def test_a_zstd_stream_that_was_never_ended_is_refused():
    stream = zstandard.ZstdCompressor().compressobj()
    body = stream.compress(as_json(record()) + b"\n")
    body += stream.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK)

    assert not len(read(body, "zstd"))
    assert len(read(body + stream.flush(), "zstd")) == 1
