"""Expositions are read as they were written, and anything else is refused."""

from __future__ import annotations

import contextlib
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, Summary
from prometheus_client.exposition import generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_open_metrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_open_metrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from varve.gateway.exposition.formats import OPEN_METRICS, PROTOBUF, TEXT, parse
from varve.gateway.exposition.known_lines import KnownLines
from varve.gateway.exposition.samples import InvalidExposition

words = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)
names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,6}", fullmatch=True)
label_names = st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,4}", fullmatch=True).filter(
    lambda name: name != "__name__"
)
any_name = st.one_of(names, words.filter(bool))
labels = st.dictionaries(
    st.one_of(label_names, words.filter(lambda w: w not in ("", "__name__"))), words, max_size=4
)
series = st.tuples(any_name, labels, st.floats(), st.none() | st.integers(0, 2**53))


def escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def written(name, labels, value, ts_ms, *, in_seconds):
    pairs = [f'"{escaped(n)}"="{escaped(v)}"' for n, v in labels.items()]
    inside = ",".join([f'"{escaped(name)}"', *pairs])
    shown = "+Inf" if value == math.inf else "-Inf" if value == -math.inf else repr(value)
    time = "" if ts_ms is None else f" {ts_ms / 1000!r}" if in_seconds else f" {ts_ms}"
    return f"{{{inside}}} {shown}{time}\n"


def bits(value: float) -> bytes:
    return b"nan" if math.isnan(value) else struct.pack("<d", value)


def read(body: str, kind: str, known=None):
    samples = (
        parse(body.encode(), kind).samples
        if known is None
        else known.samples(known.read(body.encode(), kind))
    )
    return [(dict(s.labels), bits(s.value), s.ts_ms) for s in samples]


@given(st.lists(series, max_size=6))
def test_what_is_written_as_text_is_read_again_and_once_more_from_memory(samples):
    body = "".join(written(*s, in_seconds=False) for s in samples)
    expected = [
        ({n: v for n, v in ({"__name__": name} | own).items() if v}, bits(value), ts)
        for name, own, value, ts in samples
    ]
    known = KnownLines()

    assert read(body, TEXT, known) == expected
    assert read(body, TEXT, known) == expected


@given(st.lists(series, max_size=6))
def test_what_is_written_as_open_metrics_is_read_again_and_once_more_from_memory(samples):
    body = "".join(written(*s, in_seconds=True) for s in samples) + "# EOF\n"
    expected = [
        ({n: v for n, v in ({"__name__": name} | own).items() if v}, bits(value))
        for name, own, value, _ in samples
    ]

    known = KnownLines()

    found = read(body, OPEN_METRICS, known)

    assert read(body, OPEN_METRICS, known) == found
    assert [sample[:2] for sample in found] == expected
    for (*_, ts), (*_, wanted) in zip(found, samples, strict=True):
        assert (ts is None) == (wanted is None)
        assert ts is None or abs(ts - wanted) <= 1


@given(st.binary(max_size=60), st.sampled_from([TEXT, OPEN_METRICS, PROTOBUF]))
def test_any_bytes_are_samples_or_a_refusal(body, kind):
    with contextlib.suppress(InvalidExposition):
        parse(body, kind)


PARTS = [
    "a", "{", "}", '"', "=", ",", " ", "\t", "\n", "# TYPE ", "# HELP ", "counter", "1", "NaN",
    "\\", "_created", "# EOF\n", " # {", "le", "0x1p-2", "1_0", "\0", "é",
]  # fmt: skip


@settings(max_examples=300)
@given(st.lists(st.sampled_from(PARTS), max_size=14), st.sampled_from([TEXT, OPEN_METRICS]))
def test_any_pieces_of_text_are_samples_or_a_refusal(parts, kind):
    try:
        found = parse("".join(parts).encode(), kind)
    except InvalidExposition:
        pass
    else:
        assert all(dict(s.labels).get("__name__") for s in found.samples)


@pytest.fixture
def registry(monkeypatch):
    # Varve's own metrics turn these off for the whole process.
    monkeypatch.setattr("prometheus_client.metrics._use_created", True)
    registry = CollectorRegistry()
    counter = Counter("requests", "Requests\nanswered.", ["code"], registry=registry)
    counter.labels("200").inc(3, exemplar={"trace_id": "abc"})
    counter.labels('4"\\\n4').inc()
    Gauge("depth", "Depth.", registry=registry).set(-1.5)
    Histogram("latency", "Latency.", registry=registry).observe(0.3, {"trace_id": "def"})
    Summary("size", "Size.", ["of"], registry=registry).labels("ü").observe(4)
    Info("build", "Build.", registry=registry).info({"version": "1"})
    return registry


@pytest.mark.parametrize("kind", [TEXT, OPEN_METRICS])
def test_the_clients_own_parsers_read_the_same(registry, kind):
    is_text = kind == TEXT
    body = (generate_latest if is_text else generate_open_metrics)(registry).decode()
    families = (read_text if is_text else read_open_metrics)(body)
    expected = {
        (s.name, *sorted(s.labels.items())): float(s.value)
        for family in families
        for s in family.samples
        if is_text or not s.name.endswith("_created")
    }

    known = KnownLines()
    known.read(body.encode(), kind)
    found = known.read(body.encode(), kind)
    samples = known.samples(found)

    values = {(dict(s.labels)["__name__"], *s.labels[1:]): s.value for s in samples}
    assert {
        (k[0], *(p for p in k[1:] if p[0] != "__name__")): v for k, v in values.items()
    } == expected
    assert found.metadata["depth"].help == "Depth."
    if not is_text:
        assert all(s.start_ms > 1e12 for s in samples if s.family in ("requests", "latency"))
        exemplars = [dict(e.labels) for s in samples for e in s.exemplars]
        assert exemplars == [{"trace_id": "abc"}, {"trace_id": "def"}]
