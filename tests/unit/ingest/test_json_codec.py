import codecs
import json
import math
import tracemalloc

import numpy as np
import pytest

from tests.unit.ingest.messages import NOW_MS, as_json, record
from varve.ingest import json_codec, json_shapes
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
        # What is finer than ms is cut off, however it is written.
        (1_700_000_000.123, 1_700_000_000_123),
        (1_700_000_000.1239, 1_700_000_000_123),
        (1_700_000_000_123.9, 1_700_000_000_123),
        ("2023-11-14T22:13:20.1239Z", 1_700_000_000_123),
        ("2023-11-14T22:13:20.123999999999Z", 1_700_000_000_123),
        (-0.0005, -1),
        ("1969-12-31T23:59:59.9995Z", -1),
        ("2026-11-22T09:00:00Z", 1_795_338_000_000),
        ("2026-11-22t09:00:00z", 1_795_338_000_000),
        ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ("2016-12-31T23:59:60.5+00:00", 1_483_228_800_500),
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
        "2026-11-22T09:00:61Z",
        "2026-11-22T24:00:00Z",
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


@pytest.mark.parametrize(
    ("message", "ending"),
    [
        (b'{"metric":"m","value":1,"timestamp":1,"tags":{"a":"\xff"}}', "start byte at 47"),
        ('{"metric":"Köln","value":1,"timestamp":1}'.encode("latin-1"), "at 12"),
        (json.dumps(record()).encode("utf-16"), "start byte at 0"),
    ],
)
def test_a_body_that_is_not_utf_8_is_refused_once_and_whole(message, ending):
    whole = as_json(record()) + b"\n" + message if ending != "start byte at 0" else message

    block = read(whole)

    (reject,) = block.rejects
    assert (len(block), reject.value, reject.samples) == (0, whole, 1)
    assert reject.detail.startswith("not UTF-8")


def test_a_byte_order_mark_is_skipped():
    block = read(codecs.BOM_UTF8 + as_json(record(value=1.0)) + b"\n" + as_json(record(value=2.0)))

    assert (block.values.tolist(), list(block.rejects)) == ([1.0, 2.0], [])
    assert len(JsonCodec().read_definitions(codecs.BOM_UTF8 + b'{"metric":"m"}').definitions) == 1


GOOD = [as_json(record(value=float(n), host=str(n), odd='}],{"')) for n in range(4)]


@pytest.mark.parametrize(
    ("message", "stored", "refused"),
    [
        (b"%b%b%b", [0, 1, 2], []),
        (b"%b {NaN} %b\t%b", [0, 1, 2], [b"{NaN}"]),
        (b"[%b,%b]\n[%b,%b]", [0, 1, 2, 3], []),
        (b"[%b,%b] [{},%b]\n", [0, 1, 2], [b"{}"]),
        (b"[%b,[%b,[],[[%b],{}]],%b]", [0, 1, 2, 3], [b"{}"]),
        (b"%b,\n%b,\n%b", [0, 1, 2], []),
        (b"[%b %b]", [0, 1], []),
        (b'{\n "metric": "m",\n "value": no\n}\n%b', [0], [b'{\n "metric": "m",\n "value": no\n}']),
        # An object that does not end: in an array, on a line, with and without what it holds.
        (b'[%b,{"metric":"m","tags":{"a":"1","value":1},%b,%b]', [0, 1, 2], 1),
        (b'%b\n{"metric":"m","val\n%b\n%b\n', [0, 1, 2], [b'{"metric":"m","val']),
        (b'{"metric":"m",\n  "value":\n%b\n%b', [1], 1),
        # A quote that is missing.
        (b'[%b,{"metric":"m,"value":1,"timestamp":1},%b,%b]', [0, 1, 2], 1),
        (b'[{"metric":"m,"value":1},%b,{"metric":"m,"value":1},%b]', [0, 1], 2),
        # Brackets that are missing or too many.
        (b"[%b,%b", [0, 1], [b"["]),
        (b"[%b,%b\n[%b,%b]", [0, 1, 2, 3], [b"["]),
        (b"%b}\n%b]\n%b", [0, 1, 2], [b"}", b"]"]),
        (b"[%b}},%b]", [0, 1], [b"}}"]),
        # Elements that are missing.
        (b"[,%b,,%b,]", [0, 1], [b"", b"", b""]),
        (b'7 %b "a,b{"\n%b', [0, 1], [b"7", b'"a,b{"']),
        (b'[1,%b,"a,b{",null]', [0], [b"1", b'"a,b{"', b"null"]),
        (b"[]\n[ ]%b", [0], []),
    ],
)
def test_one_bad_neighbour_loses_no_good_ones(message, stored, refused):
    block = read(message % tuple(GOOD[: message.count(b"%b")]))

    assert block.values.tolist() == stored
    if isinstance(refused, int):
        assert sum(r.samples for r in block.rejects) == refused
    else:
        assert [r.value for r in block.rejects] == refused


def test_a_message_of_nothing_but_mistakes_is_counted_to_its_end():
    block = read(b"[" + b"{}," * 100_000 + as_json(record()) + b"]")

    assert len(block) == 1
    assert len(block.rejects) == json_codec.OWN_ROWS + 1
    assert sum(r.samples for r in block.rejects) == 100_000


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ('{"zone":"a","rack":7}', "tags: 'rack' is a number, not text"),
        ('{"rack":null}', "tags: 'rack' is null, not text"),
        ('{"rack":{"row":"1"}}', "tags: 'rack' is an object, not text"),
        ('["rack"]', "tags: an array, not an object"),
        ('{"rack":"1","zone":"a","rack":"2"}', "tags: 'rack' comes twice"),
        ('{"\\u0061":"1","a":"2"}', "tags: 'a' comes twice"),
    ],
)
def test_the_detail_names_the_tag_that_is_wrong(tags, words):
    (reject,) = read(b'{"metric":"m","value":1,"timestamp":1,"tags":%b}' % tags.encode()).rejects

    assert (reject.reason, reject.detail) == (Reason.MALFORMED, words)


def test_what_says_most_of_a_series_is_remembered():
    reader = JsonCodec()
    reader.read(as_json(record()))

    told = reader.read(as_json(record() | {"type": "counter", "help": "Requests."}))
    later = reader.read(as_json(record(), record()))

    assert [o.type for o in told.owners] == ["counter"]
    assert [o.help for o in later.owners] == ["Requests.", "Requests."]


def test_identities_forgotten_for_lack_of_room_are_computed_again(monkeypatch):
    monkeypatch.setattr(json_shapes, "CACHED_BYTES", 2_000)
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
    monkeypatch.setattr(json_shapes, "CACHED_BYTES", 10 * 2**20)
    reader = JsonCodec()

    tracemalloc.start()
    for n in range(50):
        block = reader.read(as_json(record(long=f"{n}" + "x" * 1_000_000)))
        assert len(block) == 1
    del block
    held = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()

    assert held < 10 * 2**20
