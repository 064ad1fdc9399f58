"""Definitions as columns are what they are as objects, and so is what becomes of them."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plans import open_registry
from tests.unit.ingest.messages import NOW_MS
from tests.unit.ingest.test_task import plan, rows
from varve.ingest import arrow_codec, definition_files, task
from varve.ingest.definition_columns import DefinitionColumns
from varve.ingest.limits import Limits, MetricLimits
from varve.ingest.new_series import series_rows
from varve.ingest.reject_reasons import Reason
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.identity import canonical, define, identify
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables

# Also what is quoted, what sorts otherwise in UTF-16, and what takes four bytes.
texts = st.text(st.sampled_from('aBz_:09."\\\n,={}é￿𝄞 '), max_size=5)
names = st.text(st.sampled_from("ab_z:é￿𝄞"), min_size=1, max_size=4)
optional = st.none() | st.sampled_from(["", "counter", "s", "Größe"])
odd = st.tuples(texts, st.dictionaries(texts, texts, max_size=4), optional, optional, optional)
usual = st.tuples(
    names,
    st.dictionaries(names, texts.filter(bool), max_size=4).map(lambda d: dict(sorted(d.items()))),
    *(optional,) * 3,
)


def stream(said):
    columns = [[[*row[1].items()] if n == 1 else row[n] for row in said] for n in range(5)]
    schema = arrow_codec.wire_schema("definitions")
    arrays = [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)]
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return sink.getvalue().to_pybytes()


@given(st.lists(usual, max_size=6) | st.lists(usual | odd, max_size=4))
def test_whatever_definitions_say_columns_say_the_same(said):
    block = arrow_codec.read_definitions(stream(said))

    if any(not m or "" in tags or "__name__" in tags for m, tags, *_ in said):
        assert [reject.reason for reject in block.rejects] == [Reason.INVALID_LABEL]
        return
    assert list(block.definitions) == [
        define(m, tags, metric_type=kind or "unknown", unit=unit or "", help_text=text or "")
        for m, tags, kind, unit, text in said
    ]
    if isinstance(block.definitions, DefinitionColumns):
        expected = [identify(m, tags) for m, tags, *_ in said]
        assert [
            *zip(block.definitions.ids.tolist(), block.definitions.checks.tolist(), strict=True)
        ] == expected
        for (metric, tags, *_), sizes in zip(said, block.definitions.sizes.tolist(), strict=True):
            lengths = [len(text.encode()) for text in (metric, *tags)]
            values = [len(value.encode()) for value in tags.values()]
            assert sizes == [len(tags), max(lengths), max(values, default=0)]


@given(st.lists(usual, min_size=1, max_size=6))
def test_the_usual_ones_are_columns(said):
    assert isinstance(arrow_codec.read_definitions(stream(said)).definitions, DefinitionColumns)


def test_a_name_that_is_quoted_and_labels_in_no_order_get_a_second_look():
    for metric, tags in (
        ("a,b", {}),
        ("m", {"b": "1", "a": "2"}),
        ("m", {"a": ""}),
        ("m", {'"': "x"}),
    ):
        (found,) = arrow_codec.read_definitions(
            stream([(metric, tags, None, None, None)])
        ).definitions
        assert (found.series_id, found.check) == identify(metric, tags), canonical(metric, tags)


SERIES = [
    define(metric, {"host": host}, metric_type=kind)
    for metric in ("cpu", "disk")
    for host in ("a", "b", "long-name")
    for kind in ("counter", "gauge")
]
# Another series with the id of one of them.
SERIES.append(replace(define("cpu", {"host": "other"}), series_id=SERIES[0].series_id))
LIMITS = (
    Limits(),
    Limits(default=MetricLimits(series=2)),
    Limits(series=3),
    Limits(default=MetricLimits(value_bytes=5)),
    Limits(metrics={"cpu": MetricLimits(labels=0)}),
)
messages = st.lists(
    st.tuples(
        st.lists(st.sampled_from(range(len(SERIES) - 1)), max_size=4),
        st.lists(
            st.tuples(st.sampled_from(range(len(SERIES) - 1)), st.sampled_from([-90, -1, 0, 1])),
            max_size=4,
        ),
    ),
    max_size=6,
)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(messages, st.sampled_from(LIMITS), st.sampled_from([1, 5, 100]), st.booleans())
def test_tasks_and_registry_do_the_same_with_columns_and_with_objects(
    tmp_path_factory, sent, limits, held, in_files
):
    values = []
    for defined, samples in sent:
        table = pa.Table.from_arrays(
            [
                pa.array([SERIES[n].series_id for n, _ in samples], pa.int64()),
                pa.array([SERIES[n].check for n, _ in samples], pa.int32()),
                pa.array([NOW_MS + hours * 3_600_000 for _, hours in samples], pa.int64()),
                pa.array([float(n) for n, _ in samples], pa.float64()),
            ],
            schema=arrow_codec.wire_schema("samples"),
        )
        values.append(arrow_codec.write(table, [SERIES[n] for n in defined]))

    def ran(as_columns):
        store = Store(str(tmp_path_factory.mktemp("tables")))
        create_tables(store, ("samples", "series", "quarantine"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "HELD_SAMPLES", held)
            patch.setattr(definition_files, "INLINE", 0 if in_files else 1_000)
            if not as_columns:
                patch.setattr(DefinitionColumns, "of", lambda _: None)
            sources = [Message("samples", n % 2, n, NOW_MS, v) for n, v in enumerate(values)]
            outcomes = list(run_task(sources, replace(plan(store), limits=limits)))
            refused = definition_files.register(open_registry(store), store, outcomes, limits)
        series = snapshot(store, "series").scan(Bounds()).to_pylist()
        for row in series:
            del row["last_seen"]
        return (
            [(o.received, o.stored, o.merged, o.rejected, o.undefined) for o in outcomes],
            [sorted_rows(rows(store, "samples", o.files)) for o in outcomes],
            [
                [
                    (r["reason"], r["detail"], r["samples"], r["metric"])
                    for r in rows(store, "quarantine", o.quarantine)
                ]
                for o in outcomes
            ],
            refused,
            series,
        )

    assert ran(as_columns=True) == ran(as_columns=False)


def sorted_rows(found):
    return sorted((row["series_id"], row["ts"], row["value"]) for row in found)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=30
)
@given(
    st.lists(st.tuples(st.integers(0, 12), st.integers(-3, 3)), min_size=1, max_size=20),
    st.lists(st.integers(0, 12), max_size=4),
    st.sampled_from(LIMITS[:3]),
)
def test_the_registry_takes_what_one_by_one_it_would(tmp_path_factory, offered, known, limits):
    store = Store(str(tmp_path_factory.mktemp("tables")))
    create_tables(store, ("samples", "series", "quarantine"))
    registry = open_registry(store)
    registry.register([(SERIES[n], NOW_MS) for n in known])
    taken = {(r["series_id"], r["check"]): r for r in stored(store)}
    expected, refused = dict(taken), {}
    first = {}
    for n, ts in offered:
        key = SERIES[n].series_id, SERIES[n].check
        if key not in first or ts < first[key][1]:
            first[key] = SERIES[n], ts
    for key, (series, ts) in sorted(first.items(), key=lambda item: item[0]):
        of_metric = sum(r["metric"] == series.metric for r in expected.values())
        if key in expected:
            continue
        if any(key[0] == other for other, _ in expected):
            refused[key] = Reason.ID_COLLISION
        elif of_metric >= limits.of(series.metric).series or len(expected) >= limits.series:
            refused[key] = Reason.CARDINALITY_LIMIT
        else:
            expected[key] = {"metric": series.metric, "first_seen": ts, "type": series.type}

    rows = series_rows([(SERIES[n], ts) for n, ts in offered], 0)
    assert registry.register_rows(rows, limits) == refused

    found = {(r["series_id"], r["check"]): r for r in stored(store)}
    assert found.keys() == expected.keys()
    for key, row in expected.items():
        assert {name: found[key][name] for name in row} == row


def stored(store):
    return snapshot(store, "series").scan(Bounds()).to_pylist()
