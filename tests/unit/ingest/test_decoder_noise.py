"""Any bytes are samples or a reason: noise, seeded damage, nonsense of every length.

`make fuzz-ingest` goes on for as long as it is told to.
"""

import json
import random
import time
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.unit.ingest.fuzzing import ENCODINGS, check, corpus, mutate
from tests.unit.ingest.messages import NOW_MS, record
from varve.ingest import arrow_codec
from varve.ingest.decoder import Decoder

NOISE = st.binary(max_size=200) | st.binary(max_size=50).map(lambda b: arrow_codec.MAGIC + b)


@given(NOISE, st.sampled_from([None, *ENCODINGS]))
def test_noise_is_samples_or_a_reason(message, encoding):
    check(Decoder(), (message, encoding))


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    ),
    st.sampled_from(["metric", "value", "timestamp", "tags", "type", "unit", "help", "new"]),
)
# A string that ends behind a bracket looks like the beginning of an object.
@example({"": ["{"], ":": None}, "metric")
def test_any_json_in_place_of_a_field_is_samples_or_a_reason(tree, field):
    text = json.dumps([record(), record() | {field: tree}])

    (block,) = [Decoder().samples(text.encode(), 10**6)]

    assert len(block) + len(block.rejects) == 2


GOOD_OBJECTS = st.builds(
    lambda late, value, tags: record(NOW_MS + late, value) | {"tags": tags},
    st.integers(0, 999),
    st.floats(allow_nan=False, allow_infinity=False) | st.none() | st.integers(-(2**70), 2**70),
    st.dictionaries(
        st.text(min_size=1, max_size=3).filter(lambda t: t != "__name__"), st.text(max_size=5)
    ),
)
BAD_OBJECTS = st.sampled_from(
    [
        {},
        {"metric": "m"},
        {"metric": 1, "value": 1, "timestamp": 1},
        {"metric": "", "value": 1, "timestamp": 1},
        {"a": {"b": [1, "]", "},{"]}},
        7,
        None,
        "x",
    ]
)


@given(
    st.lists(GOOD_OBJECTS | BAD_OBJECTS, min_size=1, max_size=40),
    st.booleans(),
    st.sampled_from(["", " ", "\n"]),
)
def test_every_object_of_a_message_is_a_sample_or_refused_once(objects, array, blank):
    texts = [json.dumps(o, ensure_ascii=not blank) for o in objects]
    body = "[" + f",{blank}".join(texts) + "]" if array else "\n".join(texts)

    block = Decoder().samples(body.encode(), 10**7)

    good = [o["timestamp"] for o in objects if isinstance(o, dict) and o.get("tags") is not None]
    assert block.ts.tolist() == good
    assert sum(r.samples for r in block.rejects) == len(objects) - len(block)


def test_damaged_messages_are_samples_or_a_reason_and_what_was_refused_is_refused_again():
    decoder, among = Decoder(), corpus()
    for seed in range(6_000):
        message = mutate(random.Random(seed), among)
        try:
            check(decoder, message)
        except BaseException as err:
            raise AssertionError(f"seed {seed}: {message!r}") from err


GOOD = json.dumps(record()).encode()


@pytest.mark.parametrize(
    "message",
    [
        b"[" * 1_000_000,
        b'{"a":' * 200_000,
        b'"' + b'\\"' * 500_000,
        b'["' * 500_000,
        b"\n" * 1_000_000,
        b"{}\n" * 300_000,
        b"[" + b"{}," * 300_000,
        arrow_codec.MAGIC + b"\x08" * 1_000_000,
        b"[" + (GOOD + b",") * 20_000 + b"{}]",
        (GOOD + b"\n") * 20_000 + b"{}",
    ],
    ids=[
        "[",
        '{"a":',
        "one string",
        '["',
        "blank lines",
        "empty lines",
        "empty objects",
        "arrow",
        "an array whose last object is bad",
        "lines of which the last is bad",
    ],
)
def test_long_nonsense_takes_little_time_and_memory(message):
    begun = time.process_time()
    Decoder().samples(message, 8 * 2**20)
    assert time.process_time() - begun < 20  # a second or two on an idle machine

    tracemalloc.start()
    Decoder().samples(message[:400_000], 8 * 2**20)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 30 * 400_000
