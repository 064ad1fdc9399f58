from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.plans import open_registry, task_plan
from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, record
from varve.ingest import arrow_codec, task
from varve.ingest.decoder import Decoder
from varve.ingest.limits import parse
from varve.ingest.outcome import Outcome
from varve.ingest.reject_reasons import Reason
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.model.identity import define
from varve.model.metadata import Metadata
from varve.storage.bounds import Bounds
from varve.storage.commit import Step, commit
from varve.storage.snapshot import snapshot
from varve.storage.table import Table

HOUR_MS = 3_600_000
ATTIC, CELLAR = define("temperature", {"room": "attic"}), define("temperature", {"room": "cellar"})


def plan(store, **changes):
    options = {
        "now_ms": NOW_MS,
        "oldest_ms": NOW_MS - 24 * HOUR_MS,
        "newest_ms": NOW_MS + HOUR_MS,
        "old_before_ms": NOW_MS - 2 * HOUR_MS,
        "max_message_bytes": 1_000_000,
        "definition_topics": frozenset({"definitions"}),
    }
    return task_plan(store, **options | changes)


def run(store, *values, topic="samples", **changes):
    messages = [Message(topic, 0, 10 + n, NOW_MS, value) for n, value in enumerate(values)]
    (outcome,) = run_task(messages, plan(store, **changes))
    assert outcome.received == outcome.stored + outcome.merged + sum(outcome.rejected.values())
    return outcome


def rows(store, table, files):
    """What is in the files, once they are committed."""
    handle = Table(store, table)
    position = handle.position("test")
    commit(handle, files, transactions={"test": Step(position, (position or 0) + 1)})
    new = {f.path for f in files}
    view = snapshot(store, table)
    return view.scan(Bounds(), files=[f for f in view.files if f.path in new]).to_pylist()


def test_what_is_said_of_metrics_is_told_to_the_driver_the_first_word_of_each(store):
    outcome = run(
        store,
        arrow_codec.write_metadata({"cpu": Metadata("counter"), "disk": Metadata(help="Disks.")}),
        as_arrow([(ATTIC, NOW_MS, 20.5)]),
        arrow_codec.write_metadata({"cpu": Metadata("gauge", "seconds")}),
    )

    assert outcome.metadata == {
        "cpu": Metadata("counter", "seconds"),
        "disk": Metadata(help="Disks."),
    }
    assert (outcome.received, outcome.stored) == (1, 1)
    assert Outcome.from_json(outcome.to_json()) == outcome


def test_no_messages_are_no_outcome(store):
    assert list(run_task([], plan(store))) == []


def test_samples_are_stored_sorted_and_their_series_named(store):
    outcome = run(
        store, as_arrow([(CELLAR, NOW_MS + 1, 1.0), (ATTIC, NOW_MS, 2.0), (CELLAR, NOW_MS, None)])
    )

    stored = rows(store, "samples", outcome.files)
    keys = [(r["series_id"], r["ts"]) for r in stored]
    assert keys == sorted(keys)
    assert {(r["series_id"], r["ts"], r["value"]) for r in stored} == {
        (CELLAR.series_id, NOW_MS + 1, 1.0),
        (CELLAR.series_id, NOW_MS, None),
        (ATTIC.series_id, NOW_MS, 2.0),
    }
    assert dict(outcome.definitions) == {CELLAR: NOW_MS, ATTIC: NOW_MS}
    assert outcome.partitions == [("samples", 0)]


def test_copies_are_merged_and_counted(store):
    outcome = run(store, as_json(record(), record(value=5.0)), as_json(record(value=3.0)))

    assert (outcome.received, outcome.stored, outcome.merged) == (3, 1, 2)
    assert [r["value"] for r in rows(store, "samples", outcome.files)] == [5.0]


def test_old_samples_go_to_a_file_of_their_own(store):
    outcome = run(
        store, as_json(record(), record(NOW_MS - 3 * HOUR_MS), record(NOW_MS - 4 * HOUR_MS))
    )

    assert [f.rows for f in outcome.files] == [1, 2]
    assert outcome.files[1].maximum["ts"] < NOW_MS - 2 * HOUR_MS <= outcome.files[0].minimum["ts"]


def test_samples_too_old_or_in_the_future_wait_as_messages_with_their_definitions(store):
    times = {"old": NOW_MS - 25 * HOUR_MS, "now": NOW_MS, "new": NOW_MS + 2 * HOUR_MS}

    outcome = run(store, as_json(*(record(ts, host=name) for name, ts in times.items())))

    assert outcome.rejected == {"too_old": 1, "too_far_in_future": 1}
    quarantined = {r["reason"]: r for r in rows(store, "quarantine", outcome.quarantine)}
    old = arrow_codec.read(quarantined["too_old"]["value"])
    assert old.ts.tolist() == [times["old"]]
    assert [d.tags for d in old.definitions] == [(("host", "old"),)]
    numbers = ("limit_name", "allowed", "found", "oldest_ts", "newest_ts", "metric", "last_offset")
    assert [quarantined["too_old"][name] for name in numbers] == [
        "retention.samples_days",
        24 * HOUR_MS,
        25 * HOUR_MS,
        times["old"],
        times["old"],
        "requests",
        10,
    ]
    assert [quarantined["too_far_in_future"][name] for name in numbers[:3]] == [
        "ingest.max_future_s",
        HOUR_MS,
        2 * HOUR_MS,
    ]
    assert [d.tags for d, _ in outcome.definitions] == [(("host", "now"),)]


def test_a_row_names_its_metric_only_if_all_of_it_is_of_one(store):
    old = NOW_MS - 25 * HOUR_MS
    undefined = as_arrow([(ATTIC, old, 1.0)], defined=False)

    outcome = run(
        store,
        as_json(record(old, host="a"), record(old - 1, host="b")),
        as_json(record(old), record(old, metric="other")),
        undefined,
    )

    refused = rows(store, "quarantine", outcome.quarantine)
    assert [(r["metric"], r["oldest_ts"], r["newest_ts"]) for r in refused] == [
        ("requests", old - 1, old),
        (None, old, old),
        (None, old, old),
    ]


def test_what_is_counted_only_is_summed_up_by_metric_and_limit(store):
    old = NOW_MS - 25 * HOUR_MS
    values = [
        as_json(*(record(old - k, metric=metric) for k in range(3)))
        for metric in ("a", "b", "a", "b", "a")
    ]

    outcome = run(store, *values, reject_bytes=300)

    whole, *refused = rows(store, "quarantine", outcome.quarantine)
    assert (whole["offset"], whole["samples"]) == (10, 3)
    names = ("metric", "limit_name", "samples", "offset", "last_offset", "oldest_ts", "found")
    assert {tuple(row[name] for name in names) for row in refused} == {
        ("a", "retention.samples_days", 6, 12, 14, old - 2, 25 * HOUR_MS + 2),
        ("b", "retention.samples_days", 6, 11, 13, old - 2, 25 * HOUR_MS + 2),
    }
    assert {row["value"] for row in refused} == {None}


def test_the_earliest_and_the_latest_time_allowed_are_stored(store):
    outcome = run(store, as_json(record(NOW_MS - 24 * HOUR_MS), record(NOW_MS + HOUR_MS)))

    assert (outcome.stored, outcome.rejected) == (2, {})


def test_arrow_samples_without_a_definition_are_named_to_the_driver(store):
    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS, 1.0), (ATTIC, NOW_MS + 1, 2.0)], defined=False),
        as_json(record()),
    )

    assert outcome.rejected == {"unknown_series": 2}
    assert outcome.undefined == [(ATTIC.series_id, ATTIC.check)]
    (row,) = rows(store, "quarantine", outcome.quarantine)
    assert (row["offset"], row["samples"]) == (10, 2)


def test_a_definition_of_an_earlier_message_counts(store):
    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS, 1.0)]),
        as_arrow([(ATTIC, NOW_MS - 1, 2.0)], defined=False),
    )

    assert (outcome.stored, outcome.rejected) == (2, {})
    assert outcome.definitions == [(ATTIC, NOW_MS - 1)]


def test_samples_of_registered_series_need_no_definition(store):
    open_registry(store).register([(ATTIC, NOW_MS)])

    outcome = run(store, as_arrow([(ATTIC, NOW_MS, 1.0)], defined=False))

    assert (outcome.stored, outcome.definitions) == (1, [])


def test_messages_of_definitions_announce_series_the_registry_does_not_have(store):
    open_registry(store).register([(ATTIC, NOW_MS)])

    outcome = run(
        store,
        arrow_codec.write_definitions([ATTIC, CELLAR]),
        b'{"metric":"pressure"}\n{"metric":""}',
        topic="definitions",
    )

    assert outcome.definitions == [(CELLAR, NOW_MS), (define("pressure", {}), NOW_MS)]
    assert (outcome.received, outcome.rejected) == (1, {"invalid_label": 1})


def test_of_two_series_with_one_id_the_second_is_quarantined(store):
    rival = replace(CELLAR, series_id=ATTIC.series_id)
    open_registry(store).register([(ATTIC, NOW_MS)])

    outcome = run(store, as_arrow([(rival, NOW_MS, 1.0), (ATTIC, NOW_MS, 2.0)], defined=False))

    assert (outcome.stored, outcome.rejected) == (1, {"id_collision": 1})
    assert [r["value"] for r in rows(store, "samples", outcome.files)] == [2.0]


def test_a_series_the_driver_has_refused_is_quarantined_for_its_reason(store):
    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS, 1.0), (CELLAR, NOW_MS, 2.0)]),
        refused={(ATTIC.series_id, ATTIC.check): Reason.ID_COLLISION},
    )

    assert (outcome.stored, outcome.rejected) == (1, {"id_collision": 1})
    assert [d for d, _ in outcome.definitions] == [CELLAR]


def test_messages_that_cannot_be_read_are_kept_with_where_they_were(store):
    outcome = run(store, b"", b"\x00\x00\x00\x00\x01x", b"x" * 1_000_001, b"{")

    quarantined = rows(store, "quarantine", outcome.quarantine)
    large = quarantined[2]
    assert (large["limit_name"], large["allowed"]) == ("ingest.max_message_bytes", 1_000_000)
    assert large["found"] == 1_000_001
    assert [(r["offset"], r["reason"], r["value"]) for r in quarantined] == [
        (10, "malformed", b""),
        (11, "malformed", b"\x00\x00\x00\x00\x01x"),
        (12, "message_too_large", b"x" * 1_000_001),
        (13, "malformed", b"{"),
    ]
    assert {
        (r["query"], r["topic"], r["partition"], r["ts"], r["rejected_at"]) for r in quarantined
    } == {("bulk", "samples", 0, NOW_MS, NOW_MS)}
    assert "registry" in quarantined[1]["detail"]


def test_a_message_without_a_value_is_counted_and_not_refused(store):
    samples, definitions = (
        run(store, None, as_json(record())),
        run(store, None, topic="definitions"),
    )

    assert (samples.messages, samples.tombstones, samples.received) == (2, 1, 1)
    assert (definitions.messages, definitions.tombstones, definitions.received) == (1, 1, 0)
    assert (samples.rejected, definitions.rejected) == ({}, {})


def test_what_is_held_is_written_before_it_grows_without_bound(store, monkeypatch):
    monkeypatch.setattr(task, "HELD_SAMPLES", 10)
    monkeypatch.setattr(task, "HELD_REJECT_BYTES", 500)
    good = [as_json(*(record(NOW_MS + n * 4 + k) for k in range(4))) for n in range(10)]

    outcome = run(store, *good, *[b"x" * 60] * 4)

    assert [f.rows for f in outcome.files] == [12, 12, 12, 4]
    assert [f.rows for f in outcome.quarantine] == [2, 2]
    assert (outcome.stored, outcome.rejected) == (40, {"malformed": 4})


def test_what_the_registry_did_not_see_is_not_stored_when_a_task_runs_again(store):
    limits = parse("[default]\nseries = 2", "limits")
    taken = define("requests", {"host": "first"})
    message = as_json(*(record(host=str(n)) for n in range(6)))
    first = run(store, message, limits=limits)
    assert len(first.definitions) == 2
    registry = open_registry(store)
    # Another task, or another driver, takes one of the two places.
    registry.register([(taken, NOW_MS)], limits)

    refused = registry.register(first.definitions, limits)
    again = run(
        store,
        message,
        limits=limits,
        refused=refused,
        registration_done=True,
        series_version=registry.index.version,
    )

    assert (again.stored, again.rejected) == (1, {"cardinality_limit": 5})
    assert again.definitions == []
    stored = {r["series_id"] for r in rows(store, "samples", again.files)}
    registered = {r["series_id"] for r in snapshot(store, "series").scan(Bounds()).to_pylist()}
    assert stored <= registered


def test_few_samples_with_long_labels_are_written_before_they_take_much_memory(store, monkeypatch):
    monkeypatch.setattr(task, "HELD_BYTES", 3_000)
    monkeypatch.setattr(task, "SINGLES", 1)
    long = [as_json(record(long="x" * 1_000 + str(n))) for n in range(8)]

    outcome = run(store, *long)

    assert [f.rows for f in outcome.files] == [3, 3, 2]


@given(st.data())
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_messages_of_one_sample_are_the_same_together_as_alone(store, data):
    """Whatever is between them, and whatever of them is refused."""
    kinds = {
        "good": lambda n: as_json(record(NOW_MS + n, float(n), host=str(n % 3))),
        "late": lambda n: as_json(record(NOW_MS - 30 * HOUR_MS, float(n))),
        "bad": lambda n: b'{"metric":"m","value":nope,"timestamp":%d}' % n,
        "cut": lambda n: b'{"metric":"m","tags":{"n":"%d"}' % n,
        "rest": lambda n: b'{"a":"1"},"value":1,"timestamp":%d}' % (NOW_MS + n),
        "two": lambda n: as_json(record(NOW_MS + n)) + b"\n" + as_json(record(NOW_MS + n, 2.0)),
        "many": lambda n: as_json(record(NOW_MS + n), record(NOW_MS + n, 2.0, host="x")),
        "telegraf": lambda n: b'{"name":"m","fields":{"a":%d,"b":1},"timestamp":%d}' % (n, NOW_MS),
        "arrow": lambda n: as_arrow([(ATTIC, NOW_MS + n, float(n))]),
        "empty": lambda n: b"",
        "none": lambda n: None,
        "braces": lambda n: b"{}",
    }
    drawn = data.draw(st.lists(st.sampled_from([*kinds, *["good"] * 20]), max_size=120))
    values = [kinds[kind](n) for n, kind in enumerate(drawn)]
    singles = data.draw(st.sampled_from([8, 16, 512]))

    def ran(size):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(task, "SINGLES", size)
            patch.setattr(task, "_decoder", Decoder())
            messages = [Message("samples", n % 2, n, NOW_MS, v) for n, v in enumerate(values)]
            return list(run_task(messages, plan(store)))

    together, alone = ran(singles), ran(1)

    def shown(outcomes):
        return [
            (
                replace(o, files=[], quarantine=[], definitions=[]),
                sorted((d.metric, d.tags, ts) for d, ts in o.definitions),
                [rows(store, "samples", o.files), rows(store, "quarantine", o.quarantine)],
            )
            for o in outcomes
        ]

    assert shown(together) == shown(alone)


def test_an_outcome_survives_the_way_to_the_driver(store):
    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS, 1.0)]),
        as_arrow([(CELLAR, NOW_MS, 1.0)], defined=False),
        b"x",
    )

    assert Outcome.from_json(outcome.to_json()) == outcome


def test_no_sample_is_stored_twice_by_a_task_that_runs_again(store):
    message = as_json(record(), record(value=2.0, host="b"))

    first, second = run(store, message), run(store, message)

    assert {f.path for f in first.files}.isdisjoint(f.path for f in second.files)
    assert first.stored == second.stored


def test_zero_has_one_form(store):
    outcome = run(store, as_json(record(value=-0.0)), as_arrow([(ATTIC, NOW_MS, -0.0)]))

    assert [str(r["value"]) for r in rows(store, "samples", outcome.files)] == ["0.0", "0.0"]


def test_a_storm_of_rejects_keeps_so_many_bytes_of_a_partition_and_counts_the_rest(store):
    garbage = [b"bad%03d" % n for n in range(100)]
    undefined = [as_arrow([(ATTIC, NOW_MS + n, 1.0)], defined=False) for n in range(50)]

    outcome = run(store, *garbage, *undefined, as_json(record()), reject_bytes=1_000)

    assert (outcome.stored, outcome.rejected) == (1, {"malformed": 100, "unknown_series": 50})
    quarantined = rows(store, "quarantine", outcome.quarantine)
    assert sum(len(r["value"] or b"") for r in quarantined) < 1_000
    counted = {r["reason"]: r for r in quarantined if r["value"] is None}
    kept = len(quarantined) - len(counted)
    assert quarantined[:kept] == [r for r in quarantined if r["value"] is not None]
    malformed, unknown = counted["malformed"], counted["unknown_series"]
    assert (malformed["offset"], malformed["samples"]) == (10 + kept, 100 - kept)
    assert f"offsets {10 + kept} to 109, counted only" in malformed["detail"]
    assert "offsets 110 to 159, counted only" in unknown["detail"]
    assert (unknown["samples"], outcome.undefined) == (50, [(ATTIC.series_id, ATTIC.check)])


def test_a_storm_on_one_partition_takes_nothing_from_another(store):
    messages = [Message("samples", 0, n, NOW_MS, b"bad%03d" % n) for n in range(100)]
    messages.append(Message("samples", 1, 7, NOW_MS, b"worse"))

    (outcome,) = run_task(messages, plan(store, reject_bytes=500))

    kept = {r["value"] for r in rows(store, "quarantine", outcome.quarantine)}
    assert b"worse" in kept
    assert outcome.rejected == {"malformed": 101}


def test_a_long_reject_does_not_crowd_out_short_ones(store):
    messages = b"x" * 50_000, b"bad", b"y" * 50_000, b"worse"

    outcome = run(store, *messages, reject_bytes=40_000)

    quarantined = rows(store, "quarantine", outcome.quarantine)
    assert [(r["value"] or b"counted")[:9] for r in quarantined] == [
        *(b"x" * 9, b"bad", b"worse", b"counted")
    ]


def test_a_reject_larger_than_what_is_kept_is_kept_if_it_is_the_first(store):
    outcome = run(store, b"x" * 5_000, b"y" * 5_000, reject_bytes=1_000)

    quarantined = rows(store, "quarantine", outcome.quarantine)
    assert [(r["samples"], r["value"] and r["value"][:1]) for r in quarantined] == [
        (1, b"x"),
        (1, None),
    ]


def test_new_series_without_a_sample_in_time_take_no_room_of_a_limit(store):
    old = [record(NOW_MS - 30 * 86_400_000, host=f"old{n}") for n in range(5)]
    good = [record(NOW_MS + n, host="new") for n in range(30)]

    outcome = run(store, as_json(*old, *good), limits=parse("[default]\nseries = 5", "limits"))

    assert (outcome.stored, outcome.rejected) == (30, {"too_old": 5})
    assert len(outcome.definitions) == 1
