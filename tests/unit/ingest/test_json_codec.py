import json
import math
import tracemalloc

import numpy as np
import pytest

from tests.unit.ingest.messages import NOW_MS, as_json, record
from varve.ingest import json_codec
from varve.ingest.json_codec import JsonCodec
from varve.ingest.reject_reasons import Reason
from varve.model.identity import define
from varve.model.staleness import is_stale


def read(message):
    return JsonCodec().read(message)


def test_one_object_is_one_sample_with_its_definition():
    message = record(value=2.5, metric="cpu", host="a", zone="") | {
        "type": "counter",
        "unit": "seconds",
        "help": "Time spent.",
    }

    block = read(as_json(message))

    series = define(
        "cpu", {"host": "a"}, metric_type="counter", unit="seconds", help_text="Time spent."
    )
    assert list(block.owners) == [series]
    assert block.series_ids.tolist() == [series.series_id]
    assert block.checks.tolist() == [series.check]
    assert (block.ts.tolist(), block.values.tolist()) == ([NOW_MS], [2.5])
    assert (block.series_ids.dtype, block.checks.dtype) == (np.int64, np.int32)


@pytest.mark.parametrize(
    "message",
    [
        as_json(record(), record(value=2.0, host="b")),
        as_json(record()) + b"\n" + as_json(record(value=2.0, host="b")),
        as_json(record()) + b"\r\n\r\n" + as_json(record(value=2.0, host="b")) + b"\n",
        b" \n[" + as_json(record()) + b" ,\n" + as_json(record(value=2.0, host="b")) + b"]\n",
    ],
    ids=["array", "lines", "lines of DOS", "array with white space"],
)
def test_an_array_and_lines_are_several_samples(message):
    block = read(message)

    assert block.values.tolist() == [1.0, 2.0]
    assert [o.tags for o in block.owners] == [(), (("host", "b"),)]
    assert not block.rejects


def test_an_object_may_take_several_lines():
    assert read(json.dumps(record(), indent=2).encode()).ts.tolist() == [NOW_MS]


def test_an_empty_array_holds_nothing_and_is_no_mistake():
    block = read(b" [ ] ")

    assert (len(block), len(block.rejects)) == (0, 0)


@pytest.mark.parametrize(
    ("written", "ms"),
    [
        (0, 0),
        (1_700_000_000, 1_700_000_000_000),
        (1_700_000_000.1234, 1_700_000_000_123),
        (99_999_999_999, 99_999_999_999_000),
        (100_000_000_000, 100_000_000_000),
        (1_700_000_000_123, 1_700_000_000_123),
        (-1.5, -1_500),
        ("2026-11-22T09:00:00Z", 1_795_338_000_000),
        ("2026-11-22T10:00:00.0625+01:00", 1_795_338_000_062),
        ("1969-12-31T23:59:59.5Z", -500),
    ],
)
def test_a_timestamp_is_in_seconds_milliseconds_or_text(written, ms):
    one, many = (
        read(as_json(record(written))),
        read(as_json(record(written), record("2026-11-22T09:00:00Z"))),
    )

    assert one.ts.tolist() == [ms]
    assert many.ts.tolist() == [ms, 1_795_338_000_000]


@pytest.mark.parametrize(
    "written",
    [
        1e14,
        -1e14,
        1_700_000_000_000_000,
        "yesterday",
        "2026-11-22",
        "2026-11-22T09:00:00",
        "2026-13-22T09:00:00Z",
        "20261122T090000Z",
        None,
        True,
    ],
)
def test_other_timestamps_are_refused(written):
    block = read(as_json(record(written)))

    (reject,) = block.rejects
    assert (len(block), reject.reason) == (0, Reason.MALFORMED)


def test_a_timestamp_in_microseconds_is_told_so():
    (reject,) = read(as_json(record(1_700_000_000_000_000))).rejects

    assert "looks like µs" in reject.detail


def test_special_values_are_text_and_null_is_the_stale_marker():
    values = read(
        as_json(*(record(value=v) for v in ("NaN", "+Inf", "Inf", "-Inf", None, 7)))
    ).values

    assert np.isnan(values[0])
    assert values[1:4].tolist() == [math.inf, math.inf, -math.inf]
    assert is_stale(values).tolist() == [False] * 4 + [True, False]
    assert values[5] == 7.0


@pytest.mark.parametrize("value", ["nan", "1.5", "", True, [1], {"a": 1}])
def test_other_values_are_refused(value):
    (reject,) = read(as_json(record(value=value))).rejects

    assert reject.reason == Reason.MALFORMED


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (b'{"metric":"m","value":NaN,"timestamp":1}', Reason.MALFORMED),
        (b'{"metric":"m","value":1e999,"timestamp":1}', Reason.MALFORMED),
        (b'{"metric":"m","value":1}', Reason.MALFORMED),
        (b'{"metric":"m","value":1,"timestamp":1,"labels":{}}', Reason.MALFORMED),
        (b'{"metric":"m","value":1,"timestamp":1,"tags":{"a":1}}', Reason.MALFORMED),
        (b'{"metric":"m","value":1,"timestamp":1,"tags":null}', Reason.MALFORMED),
        (b'{"metric":"m","value":1,"timestamp":1,"tags":{"a":"\xff"}}', Reason.MALFORMED),
        (b'{"metric":"\xc3","value":1,"timestamp":1}', Reason.MALFORMED),
        (b'{"metric":"\\ud800","value":1,"timestamp":1}', Reason.MALFORMED),
        (b'{"metric":"m","value":1,"timestamp":1,"tags":{"__name__":"n"}}', Reason.INVALID_LABEL),
        (b'{"metric":"m","value":1,"timestamp":1,"tags":{"":"v"}}', Reason.INVALID_LABEL),
        (b'{"metric":"","value":1,"timestamp":1}', Reason.INVALID_LABEL),
        (b'{"metric":"a]b,}","value":nope,"timestamp":1}', Reason.MALFORMED),
        (b"7", Reason.MALFORMED),
        (b"null", Reason.MALFORMED),
    ],
)
@pytest.mark.parametrize("form", ["array", "lines"])
def test_a_bad_object_is_refused_as_it_was_written_and_the_others_are_stored(form, bad, reason):
    good = as_json(record(value=1.0)), as_json(record(value=3.0, brackets='"[{,'))
    if form == "array":
        message = b"[" + b" , ".join([good[0], bad, good[1]]) + b"]"
    else:
        message = b"\n".join([good[0], bad, good[1]])

    block = read(message)

    assert block.values.tolist() == [1.0, 3.0]
    assert [(r.reason, r.value, r.samples) for r in block.rejects] == [(reason, bad, 1)]


def test_a_message_cut_short_keeps_what_is_whole():
    whole = as_json(record(), record(value=2.0), record(value=3.0))

    block = read(whole[:-10])

    assert block.values.tolist() == [1.0, 2.0]
    (reject,) = block.rejects
    assert whole.removesuffix(b"]").endswith(reject.value + whole[-10:-1])


def test_an_array_that_does_not_end_is_noticed():
    block = read(as_json(record(), record())[:-1] + b",")

    assert len(block) == 2
    assert [r.reason for r in block.rejects] == [Reason.MALFORMED]


def test_what_follows_an_array_is_refused():
    block = read(b"[" + as_json(record()) + b"] rest")

    assert len(block) == 1
    assert [r.value for r in block.rejects] == [b"rest"]


def test_bad_objects_beyond_the_first_few_share_a_row_that_can_be_sent_again():
    bad = [as_json(record(1e15 + n)) for n in range(json_codec.OWN_ROWS + 5)]

    block = read(b"\n".join([as_json(record()), *bad]))

    assert len(block) == 1
    assert sum(r.samples for r in block.rejects) == len(bad)
    assert len(block.rejects) == json_codec.OWN_ROWS + 1
    last = block.rejects[-1]
    assert json.loads(last.value) == [json.loads(b) for b in bad[json_codec.OWN_ROWS :]]


def test_a_message_of_nothing_but_mistakes_is_not_read_to_its_end():
    block = read(b"[" + b"," * 3_000_000)

    assert len(block.rejects) == json_codec.OWN_ROWS + 2
    assert len(block.rejects[-2].value) > 2_900_000 or len(block.rejects[-1].value) > 2_900_000


@pytest.mark.parametrize("wrap", [b",", b"\n"])
def test_what_was_not_read_of_a_message_can_be_read_alone(monkeypatch, wrap):
    monkeypatch.setattr(json_codec, "TAKEN_APART", 3)
    whole = wrap.join([b"{}"] * 3 + [as_json(record(NOW_MS + n)) for n in range(4)])

    block = read(b"[" + whole + b"]" if wrap == b"," else whole)

    (left,) = [r.value for r in block.rejects if "not read" in r.detail]
    again = read(left)
    assert (len(again.rejects), again.ts.tolist()) == (0, [NOW_MS + n for n in range(4)])


def test_what_says_most_of_a_series_is_remembered():
    reader = JsonCodec()
    reader.read(as_json(record()))

    told = reader.read(as_json(record() | {"type": "counter", "help": "Requests."}))
    later = reader.read(as_json(record(), record()))

    assert [o.type for o in told.owners] == ["counter"]
    assert [o.help for o in later.owners] == ["Requests.", "Requests."]


def test_identities_forgotten_for_lack_of_room_are_computed_again(monkeypatch):
    monkeypatch.setattr(json_codec, "CACHED_BYTES", 2_000)
    reader = JsonCodec()
    message = as_json(*(record(host=str(n)) for n in range(5)))

    assert reader.read(message).series_ids.tolist() == reader.read(message).series_ids.tolist()


def test_definitions_are_objects_without_value_and_timestamp():
    lines = b"\n".join(
        [
            b'{"metric":"a","tags":{"x":"1"},"type":"gauge","unit":"bytes","help":"h"}',
            b'{"metric":"b"}',
            b'{"tags":{}}',
        ]
    )

    block = JsonCodec().read_definitions(lines)

    assert list(block.definitions) == [
        define("a", {"x": "1"}, metric_type="gauge", unit="bytes", help_text="h"),
        define("b", {}),
    ]
    assert [(r.reason, r.value) for r in block.rejects] == [(Reason.MALFORMED, b'{"tags":{}}')]


def test_remembered_identities_take_bounded_memory_however_long_their_labels(monkeypatch):
    monkeypatch.setattr(json_codec, "CACHED_BYTES", 10 * 2**20)
    reader = JsonCodec()

    tracemalloc.start()
    for n in range(50):
        block = reader.read(as_json(record(long=f"{n}" + "x" * 1_000_000)))
        assert len(block) == 1
    del block
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert held < 10 * 2**20
