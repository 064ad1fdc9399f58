"""What queries report, made by the code that reports it, is on the page."""

import time
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.plans import task_plan
from tests.tables import WrittenTables
from tests.unit.ingest.messages import NOW_MS, as_json, record
from varve.collectors.pages import fetch
from varve.ingest.batch import BatchCommitter
from varve.ingest.plan import Reach
from varve.ingest.quarantine_expiry import Expired
from varve.ingest.reject_reasons import Reason
from varve.ingest.replayed import Replayed
from varve.ingest.start_offsets import Start
from varve.ingest.task import run_task
from varve.kafka.message import Message
from varve.kafka.partitions import OffsetRange, Partition
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.model.window import TIERS
from varve.rollups.task import run_task as roll_up
from varve.rollups.tier import TierWorker
from varve.rollups.tier_plan import TierPlan
from varve.services.ingest_plans import ingest_plans
from varve.services.instruments import Instruments
from varve.services.streams import rollup_plan
from varve.settings import load

PARTITION = Partition("raw-metrics", "id", 0)


@pytest.fixture
def settings(tmp_path):
    return load(overrides={"home": tmp_path, "telemetry.port": 0})[0]


def page_of(instruments):
    """Values by (name, sorted labels)."""
    text = instruments.telemetry.page("")[0].decode()
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def committed(store, *values):
    """The accounting of a batch of these messages, and what the driver adds."""
    plan = task_plan(store, now_ms=NOW_MS, oldest_ms=NOW_MS - 1_000)
    messages = [Message("raw-metrics", 0, n, NOW_MS, value) for n, value in enumerate(values)]
    outcomes = list(run_task(messages, plan))
    committer = BatchCommitter(store, "bulk", {PARTITION: Start(None, 0)})
    accounting = committer.commit({PARTITION: OffsetRange(0, len(values))}, outcomes)
    return accounting | {
        "seconds": 0.7,
        "commit_s": 0.02,
        "driver_cpu_s": 0.1,
        "series": 2,
        "active_series": 1,
        "awaited": 1,
    }


def test_of_a_batch_in_is_stored_and_merged_and_rejected(settings):
    store = WrittenTables(settings.storage_root()).store
    instruments = Instruments()
    plan = next(p for p in instruments.on_ingest(ingest_plans(settings)) if p.query == "bulk")
    zero = page_of(instruments)
    assert (
        zero["varve_ingest_rejected_samples_total", ("query", "bulk"), ("reason", "too_old")] == 0
    )
    values = (
        as_json([record(NOW_MS), record(NOW_MS), record(NOW_MS + 1), record(NOW_MS - 5_000)]),
        b"garbage",
    )

    plan.on_batch(committed(store, *values))

    page, query = page_of(instruments), ("query", "bulk")
    rejected = {
        reason: page["varve_ingest_rejected_samples_total", query, ("reason", reason.value)]
        for reason in Reason
    }
    assert {reason: n for reason, n in rejected.items() if n} == {
        Reason.TOO_OLD: 1,
        Reason.MALFORMED: 1,
    }
    stored = page["varve_ingest_stored_samples_total", query]
    merged = page["varve_ingest_merged_samples_total", query]
    assert (stored, merged) == (2, 1)
    assert page["varve_ingest_samples_total", query] == stored + merged + sum(rejected.values())
    assert page["varve_ingest_messages_total", query] == 2
    assert page["varve_ingest_read_bytes_total", query] == sum(map(len, values))
    assert page["varve_ingest_written_files_total", query] == 2
    assert page["varve_ingest_written_bytes_total", query] > 0
    assert page["varve_ingest_batch_duration_seconds_count", query] == 1
    assert page["varve_ingest_commit_duration_seconds_sum", query] == 0.02
    assert page["varve_ingest_registered_series", query] == 2
    assert page["varve_ingest_active_series", query] == 1


def test_lag_is_by_partition_and_what_waits_is_no_older_than_completeness(settings):
    instruments = Instruments()
    plan = instruments.on_ingest(ingest_plans(settings))[0]
    query = ("query", plan.query)
    other = Partition("raw-metrics", "id", 1)
    lag = ("varve_ingest_lag_messages", ("partition", "0"), query, ("topic", "raw-metrics"))

    plan.on_look(Reach(10_000, {PARTITION: 30, other: 4}, {PARTITION: 10, other: 4}, 4_000))
    page = page_of(instruments)
    assert page[lag] == 20
    assert page["varve_ingest_unread_age_seconds", query] == 6
    assert page["varve_ingest_complete_timestamp_seconds", query] == 4

    plan.on_look(Reach(12_000, {PARTITION: 30, other: 4}, {PARTITION: 30, other: 4}, 11_000))
    page = page_of(instruments)
    assert page[lag] == 0
    assert page["varve_ingest_unread_age_seconds", query] == 0

    # A partition that was added and never read.
    plan.on_look(Reach(13_000, {PARTITION: 30, other: 9}, {PARTITION: 30}, 11_000))
    assert page_of(instruments)[lag[0], ("partition", "1"), *lag[2:]] == 9


def test_a_replay_is_apart_from_batches(settings):
    instruments = Instruments()
    plan = instruments.on_ingest(ingest_plans(settings))[0]

    plan.on_replay(Replayed(3, 1, Counter(too_old=1), Counter(unknown_series=9)))

    page, query = page_of(instruments), ("query", plan.query)
    replayed = "varve_ingest_replayed_samples_total"
    assert page[replayed, ("outcome", "stored"), query] == 3
    assert page["varve_ingest_samples_total", query] == 0


def test_what_expires_of_quarantine_is_told_by_why_it_had_to_go(settings):
    instruments = Instruments()
    plan = instruments.on_ingest(ingest_plans(settings))[0]

    plan.on_expiry(Expired(Counter(malformed=3), Counter(malformed=2, too_old=1)))

    page, expired = page_of(instruments), "varve_ingest_expired_samples_total"
    assert page[expired, ("cause", "age"), ("reason", "malformed")] == 3
    assert page[expired, ("cause", "size"), ("reason", "malformed")] == 2
    assert page[expired, ("cause", "size"), ("reason", "too_old")] == 1
    assert page[expired, ("cause", "age"), ("reason", "too_old")] == 0


def test_of_a_tier_closing_repairing_and_pending_are_told_apart(settings):
    tables, series = WrittenTables(settings.storage_root()), define("load", {"job": "x"})
    instruments = Instruments()
    plan = instruments.on_rollup(rollup_plan(settings))
    clock = ManualClock(0)
    tier = TIERS[0]
    worker = TierWorker(TierPlan(tables.store, tier, ("bulk",), 0, 60_000, 100), clock)

    def step():
        work = worker.plan()
        if work is None:
            plan.on_look(tier.name, worker.progress())
            return
        files = [f for f in map(roll_up, work.tasks) if f is not None]
        plan.on_commit(worker.commit(work, files) | {"seconds": 0.2, "commit_s": 0.01})
        plan.on_look(tier.name, worker.progress())

    label = ("tier", tier.name)
    tables.put([(series.series_id, ts, 1.0) for ts in (30_000, 90_000)], complete_ms=120_000)
    step()
    page = page_of(instruments)
    assert page["varve_rollup_frontier_timestamp_seconds", label] == 120
    assert page["varve_rollup_rows_total", label, ("work", "close")] == 2
    assert page["varve_rollup_pending_windows", label] == 0

    tables.put([(series.series_id, 45_000, 2.0)])
    step()
    page = page_of(instruments)
    assert page["varve_rollup_pending_windows", label] == 1
    assert page["varve_rollup_source_lag_versions", label] == 1

    clock.advance(60_000)
    step()
    page = page_of(instruments)
    assert page["varve_rollup_rows_total", label, ("work", "repair")] == 1
    assert page["varve_rollup_pending_windows", label] == 0
    assert page["varve_rollup_source_lag_versions", label] == 0
    assert page["varve_rollup_step_duration_seconds_count", label] == 2
    plan.on_conflict(tier.name)
    assert page_of(instruments)["varve_rollup_conflicts_total", label] == 1


def test_the_page_of_a_process_has_its_tables_and_its_parts(settings):
    tables = WrittenTables(settings.storage_root())
    tables.put([(1, 1, 1.0)])
    instruments = Instruments()
    instruments.on_ingest(ingest_plans(settings))

    deadline = time.monotonic() + 30
    with instruments.shown(settings) as url:
        text, _ = fetch(url, 10)
        while "varve_table_rows{" not in text:  # a thread looks at them
            assert time.monotonic() < deadline
            text, _ = fetch(url, 10)

    assert 'varve_table_rows{table="samples"} 1.0' in text
    assert 'varve_process_resident_memory_bytes{part="driver"}' in text
