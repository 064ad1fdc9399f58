import os

import pytest

from tests.plans import open_registry, task_plan
from tests.unit.ingest.messages import NOW_MS, as_arrow, as_json, record
from tests.unit.ingest.test_task import ATTIC, CELLAR, rows, run
from varve.ingest import arrow_codec, task
from varve.ingest.limits import Limits, LimitsFile, MetricLimits, parse
from varve.ingest.plan import after_registration
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_registry import Full
from varve.ingest.task import run_task
from varve.ingest.verdicts import NAMED_METRICS
from varve.kafka.message import Message
from varve.model.errors import NeedsOperator
from varve.model.identity import define
from varve.model.resources import conf_dir


def hosts(count, metric="up"):
    return [(define(metric, {"host": str(n)}), NOW_MS) for n in range(count)]


def test_the_file_that_ships_is_well_formed():
    limits = LimitsFile([conf_dir() / "limits.toml"]).current()

    assert limits.series > limits.default.series > 0


def test_a_metric_has_the_limits_of_its_section_and_else_the_default():
    limits = parse(
        '[total]\nseries = 9\n[default]\nseries = 5\nlabels = 2\n[metric."a b"]\nseries = 7', "f"
    )

    assert limits.series == 9
    assert limits.of("other") == MetricLimits(series=5, labels=2)
    assert limits.of("a b") == MetricLimits(series=7, labels=2)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[", "not valid TOML"),
        pytest.param("a = " + "[" * 10_000, "not valid TOML", id="deep"),
        ("[totl]", "there is no totl"),
        ("[default]\nserie = 1", "default: there is no serie"),
        ("[metric.up]\nlabels = -1", "metric.up: -1 is not"),
        ("[metric.up]\nlabels = true", "not a whole number"),
        ("default = 3", "a section is wanted"),
        ("metric = 5", "a section is wanted"),
        ("[[metric]]\nseries = 5", "a section is wanted"),
    ],
)
def test_a_malformed_file_is_refused_with_the_place(text, complaint):
    with pytest.raises(NeedsOperator, match=complaint):
        parse(text, "limits.toml")


def test_a_change_is_in_force_at_once_and_a_mistake_changes_nothing(tmp_path, caplog):
    ours, shipped = tmp_path / "ours.toml", tmp_path / "shipped.toml"
    shipped.write_text("[total]\nseries = 1")
    file = LimitsFile([ours, shipped])
    assert file.current().series == 1

    ours.write_text("[total]\nseries = 22")
    assert file.current().series == 22
    ours.write_text("[total]\nseries = none")
    assert file.current().series == 22
    assert "limits stay as they were" in caplog.text
    ours.write_text("[total]\nseries = 3")
    os.utime(ours, ns=(1, 1))
    assert file.current().series == 3
    ours.unlink()
    assert file.current().series == 1


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("latin-1", r"limits.toml is not in UTF-8 \(line 2 has the byte 0xE4\): save it as UTF-8$"),
        ("utf-16", "limits.toml is in UTF-16, not in UTF-8: save it as UTF-8$"),
    ],
)
def test_a_file_in_another_encoding_is_one_line_that_says_what_to_do(
    tmp_path, caplog, encoding, words
):
    path, text = tmp_path / "limits.toml", '[default]\n[metric."Fälle"]\nseries = 7\n'
    path.write_bytes(text.encode(encoding))
    with pytest.raises(NeedsOperator, match=words) as caught:
        LimitsFile([path])
    assert "\n" not in str(caught.value)

    path.write_bytes(text.encode("utf-8-sig"))
    file = LimitsFile([path])
    assert file.current().of("Fälle").series == 7

    path.write_bytes(text.encode(encoding) + b"# saved again")
    assert file.current().of("Fälle").series == 7
    assert "save it as UTF-8" in caplog.text


def test_without_a_file_there_are_no_limits(tmp_path):
    assert LimitsFile([tmp_path / "none.toml"]).current() == Limits()


@pytest.mark.parametrize(
    ("limits", "allowed"),
    [
        (MetricLimits(labels=2), True),
        (MetricLimits(labels=1), False),
        (MetricLimits(name_bytes=4), True),
        (MetricLimits(name_bytes=3), False),
        (MetricLimits(value_bytes=6), True),
        (MetricLimits(value_bytes=5), False),
    ],
)
def test_labels_and_the_lengths_of_names_and_values_in_bytes_are_limited(limits, allowed):
    definition = define("cpu", {"host": "ö" * 3, "core": "1"})

    assert (limits.exceeded_by(definition) is None) == allowed


def test_new_series_beyond_the_limit_of_a_metric_are_refused_and_counted_exactly(store):
    limits = Limits(default=MetricLimits(series=3), metrics={"free": MetricLimits()})
    registry = open_registry(store)

    refused = registry.register(hosts(5) + hosts(9, "free"), limits)
    again = registry.register(hosts(5), limits)

    assert set(refused.values()) == {Reason.CARDINALITY_LIMIT}
    assert set(again) == set(refused)
    assert registry.series_of == {"up": 3, "free": 9}
    assert registry.full(limits) == Full(frozenset({"up"}))


def test_the_total_is_a_limit_of_all_metrics_together(store):
    limits = Limits(series=4)
    registry = open_registry(store)

    refused = registry.register(hosts(3) + hosts(3, "down"), limits)

    assert len(refused) == 2
    assert registry.full(limits) == Full(all=True)


def test_drivers_count_what_each_other_has_registered(store):
    limits = Limits(default=MetricLimits(series=4))
    bulk, critical = open_registry(store), open_registry(store)
    bulk.register(hosts(3), limits)

    refused = critical.register(hosts(6), limits)

    assert len(refused) == 2
    assert open_registry(store).series_of == {"up": 4}


def test_known_series_keep_flowing_and_new_ones_leave_a_count_and_examples(store, monkeypatch):
    monkeypatch.setattr(task, "EXAMPLES", 2)
    open_registry(store).register([(ATTIC, NOW_MS)])
    storm = [
        as_json(*(record(metric="temperature", n=str(n)) for n in range(k, k + 5))) for k in (0, 5)
    ]

    outcome = run(
        store, as_arrow([(ATTIC, NOW_MS, 1.0)]), *storm, full=Full(frozenset({"temperature"}))
    )

    assert (outcome.stored, outcome.rejected) == (1, {"cardinality_limit": 10})
    assert outcome.definitions == []
    (row,) = rows(store, "quarantine", outcome.quarantine)
    assert (row["samples"], row["offset"]) == (10, 11)
    assert (row["metric"], row["last_offset"]) == ("temperature", 12)
    assert len(arrow_codec.read(row["value"])) == 2


def test_every_limit_is_named_with_its_metric_and_numbers(store):
    limits = parse(
        """
        [total]
        series = 3
        [default]
        series = 2
        labels = 3
        value_bytes = 6
        max_age_s = 60
        [metric.wide]
        labels = 2
        max_age_s = 3600
        [metric.early]
        max_future_s = 5
        """,
        "limits.toml",
    )
    labels = {"a": "1", "b": "2", "c": "3"}
    records = [
        record(metric="wide", **labels),
        record(metric="long", a="äöü-"),
        record(NOW_MS - 60_001, metric="late"),
        record(NOW_MS - 3_600_007, metric="wide"),
        record(NOW_MS + 5_002, metric="early"),
        *(record(metric="up", host=str(n)) for n in range(3)),
        *(record(metric="down", host=str(n)) for n in range(2)),
    ]
    registry, message = open_registry(store), as_json(*records)
    plan = task_plan(store, now_ms=NOW_MS, limits=limits)
    (first,) = run_task([Message("t", 0, 0, NOW_MS, message)], plan)

    refused = registry.register(first.definitions, limits)
    plan = after_registration(plan, registry, refused)
    (again,) = run_task([Message("t", 0, 0, NOW_MS, message)], plan)

    names = ("reason", "metric", "limit_name", "allowed", "found", "samples")
    found = {tuple(r[name] for name in names) for r in rows(store, "quarantine", again.quarantine)}
    full = {row for row in found if row[0] == "cardinality_limit"}
    assert found - full == {
        ("label_limit", "wide", "metric.labels", 2, 3, 1),
        ("label_limit", "long", "default.value_bytes", 6, 7, 1),
        ("too_old", "late", "default.max_age_s", 60_000, 60_001, 1),
        ("too_old", "wide", "metric.max_age_s", 3_600_000, 3_600_007, 1),
        ("too_far_in_future", "early", "metric.max_future_s", 5_000, 5_002, 1),
    }
    # Which of the five have the three places is decided by their ids.
    assert sum(row[-1] for row in full) == 2
    kept = registry.series_of
    for _, metric, limit, allowed, _, _ in full:
        own = kept[metric] >= 2
        assert (limit, allowed) == (("default.series", 2) if own else ("total.series", 3))


def test_a_storm_of_metrics_is_no_storm_of_rows(store):
    records = [record(metric=f"m{n}", host="a") for n in range(3 * NAMED_METRICS)]
    messages = [as_json(*records[n::3]) for n in range(3)]

    outcome = run(store, *messages, limits=Limits(series=0), full=Full(all=True))

    refused = rows(store, "quarantine", outcome.quarantine)
    named = [row for row in refused if row["metric"] is not None]
    (others,) = (row for row in refused if row["metric"] is None)
    assert len(named) == NAMED_METRICS
    assert {row["limit_name"] for row in refused} == {"total.series"}
    assert (others["samples"], others["last_offset"]) == (2 * NAMED_METRICS, 12)


def test_a_task_names_no_more_new_series_than_a_metric_may_have(store):
    messages = [as_json(*(record(host=f"{k}-{n}") for n in range(10))) for k in range(3)]

    outcome = run(store, *messages, limits=Limits(default=MetricLimits(series=12)))

    assert len(outcome.definitions) == 12
    assert outcome.rejected == {"cardinality_limit": 18}


def test_a_new_series_with_too_many_labels_is_refused_and_a_known_one_is_stored(store):
    open_registry(store).register([(CELLAR, NOW_MS)])

    outcome = run(
        store,
        as_arrow([(ATTIC, NOW_MS, 1.0), (CELLAR, NOW_MS, 2.0)]),
        limits=Limits(default=MetricLimits(labels=0)),
    )

    assert (outcome.stored, outcome.rejected) == (1, {"label_limit": 1})


def test_definitions_beyond_a_limit_are_refused_too(store):
    outcome = run(
        store,
        arrow_codec.write_definitions([ATTIC, CELLAR]),
        topic="definitions",
        limits=Limits(default=MetricLimits(labels=0)),
    )

    assert (outcome.definitions, outcome.rejected) == ([], {"label_limit": 2})
    (row,) = rows(store, "quarantine", outcome.quarantine)
    assert list(arrow_codec.read_definitions(row["value"]).definitions) == [ATTIC, CELLAR]


def test_a_class_of_retention_names_series_by_their_labels():
    (debug,) = parse(
        '[retention.debug]\nmatch = { __name__ = "debug_.*", env = "dev|" }\nsamples_days = 0.5\n'
        "rollup_1m_days = 1.5",
        "f",
    ).classes

    assert debug.kept_ms == {"samples": 43_200_000, "rollup_1m": 129_600_000}
    assert debug.matcher.matches(define("debug_calls", {"env": "dev"}))
    assert debug.matcher.matches(define("debug_calls", {}))
    assert not debug.matcher.matches(define("debug_calls", {"env": "prod"}))
    assert not debug.matcher.matches(define("no_debug_calls", {}))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("retention = 3", "a section is wanted for each"),
        ("[retention]\ndebug = 3", "retention.debug: a section is wanted, with match"),
        ("[retention.x]\nmatch = {}\nsamples_days = 1", "no label is named"),
        ('[retention.x]\nmatch = "up"\nsamples_days = 1', "a regex for each label"),
        ('[retention.x]\nmatch = { a = "(" }\nsamples_days = 1', "the pattern of a"),
        ('[retention.x]\nmatch = { a = "b" }\nsample_days = 1', "there is no sample_days"),
        ('[retention.x]\nmatch = { a = "b" }', "name samples_days"),
        ('[retention.x]\nmatch = { a = "b" }\nsamples_days = true', "not a number"),
        ('[retention.x]\nmatch = { a = "b" }\nsamples_days = 0.001', "not a number from 0.01"),
        ('[retention.x]\nmatch = { a = "b" }\nsamples_days = nan', "not a number"),
        ('[retention.x]\nmatch = { a = "b" }\nrollup_1m_days = 2', "name samples_days"),
        (
            '[retention.x]\nmatch = { a = "b" }\nsamples_days = 1\nrollup_1m_days = 1.5',
            "rollup_1m_days must be at least 2",
        ),
    ],
)
def test_a_malformed_class_of_retention_is_refused_with_the_place(text, complaint):
    with pytest.raises(NeedsOperator, match=complaint):
        parse(text, "limits.toml")


def test_samples_of_a_class_are_too_old_before_the_others(store):
    limits = parse('[retention.x]\nmatch = { host = "dev.*" }\nsamples_days = 0.1', "f")
    old = NOW_MS - 7_200_000
    hosts = [define("up", {"host": host}) for host in ("dev1", "prod1")]

    for defined in (True, False):
        message = as_arrow([(host, old, 1.0) for host in hosts], defined=defined)
        open_registry(store).register([(host, NOW_MS) for host in hosts])
        outcome = run(store, message, limits=limits)
        assert (outcome.stored, outcome.rejected) == (1, {"too_old": 1})
