"""Exports are read the same from memory as by the translation, whatever was read before."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from tests.unit.gateway.decoding import told
from varve.gateway.otlp.config import OtlpConfig
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.known_points import ExportReader, export_of
from varve.gateway.otlp.translation import translate
from varve.gateway.protobuf import delimited_field
from varve.gateway.refusals import Malformed

NS = 1_000_000
TIMES = [0, 1, 5_000 * NS, 170_000 * NS, 400_000 * NS + 7, 2**64 - 1]

keys = st.sampled_from(["a", "b.c", "b_c", "service.name", "service.instance.id", "", "_", "ü"])
texts = st.sampled_from(["", "x", "y", "é"])


@st.composite
def attributes(draw):
    return draw(st.lists(st.tuples(keys, texts), max_size=3))


def fill(into, pairs):
    for key, value in pairs:
        into.add(key=key).value.string_value = value


def add_point(draw, points, kind):
    point = points.add(
        time_unix_nano=draw(st.sampled_from(TIMES)),
        start_time_unix_nano=draw(st.sampled_from(TIMES)),
    )
    fill(point.attributes, draw(attributes()))
    point.flags = draw(st.sampled_from([0, 0, 0, 1, 2]))
    if kind in ("gauge", "sum"):
        if draw(st.booleans()):
            point.as_int = draw(st.integers(-(2**63), 2**63 - 1))
        elif draw(st.booleans()):
            point.as_double = draw(st.floats())
    else:
        point.count = draw(st.integers(0, 2**64 - 1))
    if kind == "histogram":
        point.explicit_bounds.extend(draw(st.sampled_from([(), (1.0,), (0.5, 1.0), (1.0, 1.0)])))
        counts = st.integers(0, 2**64 - 1) | st.integers(0, 5)
        point.bucket_counts.extend(draw(st.lists(counts, max_size=3)))
        if draw(st.booleans()):
            point.sum, point.min = draw(st.floats()), 1.0
    if kind != "summary" and not draw(st.integers(0, 5)):
        point.exemplars.add(as_double=0.5, time_unix_nano=5_000 * NS, trace_id=b"\1" * 16)
    if kind == "summary":
        point.quantile_values.add(quantile=0.5, value=2.0)
    if kind == "exponential_histogram":
        point.scale = draw(st.sampled_from([-9, 0, 3]))
        point.positive.bucket_counts.extend([1, 2])


@st.composite
def exports(draw):
    export = ExportMetricsServiceRequest()
    for _ in range(draw(st.integers(0, 2))):
        of_resource = export.resource_metrics.add(schema_url=draw(texts))
        fill(of_resource.resource.attributes, draw(attributes()))
        for _ in range(draw(st.integers(0, 2))):
            of_scope = of_resource.scope_metrics.add(schema_url=draw(texts))
            of_scope.scope.name = draw(texts)
            for _ in range(draw(st.integers(0, 3))):
                metric = of_scope.metrics.add(
                    name=draw(st.sampled_from(["m", "m.n", "", "__"])),
                    unit=draw(st.sampled_from(["", "s", "1"])),
                    description=draw(texts),
                )
                kind = draw(
                    st.sampled_from(
                        ["gauge", "sum", "sum", "histogram", "histogram", "summary",
                         "exponential_histogram", ""]
                    )
                )  # fmt: skip
                if not kind:
                    continue
                data = getattr(metric, kind)
                data.SetInParent()
                for _ in range(draw(st.integers(0, 3))):
                    add_point(draw, data.data_points, kind)
                if kind not in ("gauge", "summary"):
                    data.aggregation_temporality = draw(st.sampled_from([2, 2, 2, 1, 0]))
                if kind == "sum":
                    data.is_monotonic = draw(st.booleans())
    return export.SerializeToString()


CONFIGS = [
    OtlpConfig(),
    OtlpConfig(convert_histograms_to_nhcb=True, promote_scope_metadata=True),
    OtlpConfig(keep_identifying_resource_attributes=True, promote_all_resource_attributes=True),
]


class Both:
    """The same exports, read from memory and translated one by one."""

    def __init__(self, config=CONFIGS[0], *, adds_deltas=True, **bounds):
        self.config = config
        self.totals, mine = (
            DeltaTotals(lambda: 0.0, most=3) if adds_deltas else None for _ in range(2)
        )
        self.reader = ExportReader(config, mine, **bounds)

    def assert_same(self, body):
        assert outcome(self.reader.read, body) == outcome(self.translated, body)

    def translated(self, body):
        return translate(export_of(body), self.config, self.totals)


def outcome(read, body):
    try:
        found = read(body)
    except Malformed:
        return "malformed"
    return told(found.request.message()), found.refusals


@settings(max_examples=100)
@given(st.lists(exports(), max_size=4), st.sampled_from(CONFIGS), st.booleans())
def test_what_was_read_before_changes_nothing(bodies, config, adds_deltas):
    both = Both(config, adds_deltas=adds_deltas)
    for body in bodies:
        for _ in range(2):
            both.assert_same(body)


@settings(max_examples=100)
@given(exports(), st.integers(0, 2**32))
def test_damaged_exports_are_refused_or_read_as_by_the_translation(body, seed):
    both = Both()
    both.assert_same(body)
    rng = random.Random(seed)
    for _ in range(8):
        damaged = bytearray(body)
        for _ in range(rng.randrange(1, 3)):
            at = rng.randrange(len(damaged) + 1)
            damaged[at : at + rng.randrange(2)] = rng.randbytes(rng.randrange(3))
        both.assert_same(bytes(damaged))


def small(**point) -> ExportMetricsServiceRequest:
    export = ExportMetricsServiceRequest()
    metric = export.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(time_unix_nano=NS, **point)
    return export


def test_protobuf_that_is_written_in_an_unusual_way_means_the_same():
    both = Both()
    plain = small(as_int=3).SerializeToString()
    both.assert_same(plain)
    inner = plain[2:]
    for body in (
        plain + delimited_field(9, b"x"),  # a field that nobody knows
        b"\x8a\x00" + plain[1:],  # a key in two bytes
        b"\x8a\x80\x80\x80\x80\x00" + plain[1:],  # in more than a key may have
        b"\x0a" + bytes([len(inner) | 0x80, 0x80, 0x80, 0x80, 0x00]) + inner,  # a size, the same
        b"\x0a" + bytes([len(inner) | 0x80, 0x80, 0x80, 0x80, 0x80, 0x00]) + inner,
        b"\x0b\x0c" + plain,  # an empty group
        plain[:-1],
        plain + plain,
    ):
        both.assert_same(body)


def test_a_text_that_is_no_utf8_is_refused_wherever_it_is():
    both = Both()
    for export in (small(), small(as_int=1)):
        export.resource_metrics[0].schema_url = "AAAA"
        scope = export.resource_metrics[0].scope_metrics[0]
        scope.schema_url = scope.scope.name = scope.scope.version = "AAAA"
        scope.metrics[0].description = scope.metrics[0].unit = "AAAA"
        scope.metrics.add(name="AAAA")
        export.resource_metrics.add(schema_url="AAAA")
        export.resource_metrics[0].scope_metrics.add(schema_url="AAAA")
        body = export.SerializeToString()
        both.assert_same(body)
        at = -1
        while (at := body.find(b"AAAA", at + 1)) >= 0:
            damaged = body[:at] + b"\xff" + body[at + 1 :]
            assert outcome(both.reader.read, damaged) == "malformed"


def test_what_is_remembered_is_bounded():
    both = Both(most_known=20)
    for n in range(50):
        export = small(as_int=n)
        point = export.resource_metrics[0].scope_metrics[0].metrics[0].gauge.data_points[0]
        fill(point.attributes, [("n", str(n))])
        both.assert_same(export.SerializeToString())
        assert len(both.reader.catalogue) <= 22


def test_points_that_are_known_are_not_parsed_again(monkeypatch):
    reader = ExportReader(OtlpConfig(), None)
    reader.read(small(as_int=1).SerializeToString())
    monkeypatch.delattr("varve.gateway.otlp.known_points.export_of")

    found = reader.read(small(as_double=2.5).SerializeToString())

    assert len(found.request) == 1
