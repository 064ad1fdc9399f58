"""What is declared follows the conventions, and a page is never half of a change."""

import re
import threading
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from varve.telemetry.metrics import (
    AnomalyMetrics,
    CollectorMetrics,
    ComponentUse,
    DiskSpace,
    GatewayMetrics,
    IngestMetrics,
    MaintenanceMetrics,
    NotifyMetrics,
    QueryMetrics,
    RollupMetrics,
    RulesMetrics,
    ScrapeMetrics,
    StatsdMetrics,
    StreamMetrics,
    TableMetrics,
    Usage,
    declare_components,
    declare_disks,
    declare_parts,
)
from varve.telemetry.registry import Telemetry


def everything():
    """All metrics there are, in one registry."""
    telemetry = Telemetry()
    groups = (
        IngestMetrics,
        RollupMetrics,
        StreamMetrics,
        TableMetrics,
        QueryMetrics,
    )
    services = (CollectorMetrics, GatewayMetrics, MaintenanceMetrics, NotifyMetrics)
    services += (RulesMetrics, ScrapeMetrics, StatsdMetrics, AnomalyMetrics)
    for group in (*groups, *services):
        group(telemetry)
    usage = Usage(1.5, 1_000)
    declare_parts(telemetry, lambda: {"jvm": usage})
    declare_components(telemetry, lambda: {"kafka": ComponentUse(True, 2, usage)})
    declare_disks(telemetry, lambda: {"home": DiskSpace(free_bytes=7, floor_bytes=5)})
    return telemetry


DECLARED = everything().declared
OPERATIONS = Path(__file__).parents[3] / "docs" / "operations.md"


@pytest.mark.parametrize("metric", DECLARED, ids=lambda m: m.name)
def test_a_metric_is_named_by_the_conventions_and_says_what_it_means(metric):
    assert re.fullmatch(r"varve_[a-z]+(_[a-z]+)*", metric.name)
    assert metric.name.endswith("_total") == (metric.kind == "counter")
    assert metric.help.endswith(".")
    assert metric.kind != "histogram" or metric.name.endswith("_seconds")


def test_no_metric_is_declared_twice():
    assert len({metric.name for metric in DECLARED}) == len(DECLARED)


def test_docs_have_every_metric_with_its_kind_labels_and_meaning_and_no_other():
    rows = re.findall(
        r"^\| (varve_\w+) \| (\w+) \| (.*?) ?\| (.*) \|$", OPERATIONS.read_text(), re.MULTILINE
    )

    assert sorted(rows) == sorted(
        (metric.name, metric.kind, ", ".join(metric.labels), metric.help) for metric in DECLARED
    )


def test_units_are_on_the_page_and_part_of_the_name():
    page, _ = everything().page("application/openmetrics-text; version=1.0.0")

    units = re.findall(r"^# UNIT (\w+) (\w+)$", page.decode(), re.MULTILINE)

    assert dict(units)["varve_ingest_read_bytes"] == "bytes"
    assert all(name.endswith(f"_{unit}") for name, unit in units)


def test_computed_metrics_are_read_with_the_page():
    text = everything().page("")[0].decode()

    assert 'varve_process_cpu_seconds_total{part="jvm"} 1.5' in text
    assert 'varve_component_restarts_total{component="kafka"} 2.0' in text
    assert 'varve_component_up{component="kafka"} 1.0' in text
    assert 'varve_component_held{component="kafka"} 0.0' in text
    assert 'varve_disk_free_bytes{what="home"} 7.0' in text
    assert 'varve_disk_floor_bytes{what="home"} 5.0' in text


def test_sums_hold_on_every_page_however_it_falls_between_changes():
    telemetry = Telemetry()
    metrics = IngestMetrics(telemetry)
    done = threading.Event()

    def change():
        for _ in range(3_000):
            with telemetry.together():
                metrics.samples.labels("bulk").inc(3)
                metrics.stored.labels("bulk").inc(1)
                metrics.merged.labels("bulk").inc(1)
                metrics.rejected.labels("bulk", "too_old").inc(1)
        done.set()

    writer = threading.Thread(target=change)
    writer.start()
    pages = [telemetry.page("")[0].decode()]
    while not done.is_set():
        pages.append(telemetry.page("")[0].decode())
    writer.join()
    pages.append(telemetry.page("")[0].decode())

    for page in pages:
        values = {
            sample.name: sample.value
            for family in text_string_to_metric_families(page)
            for sample in family.samples
        }
        parts = sum(
            values.get(f"varve_ingest_{part}_samples_total", 0)
            for part in ("stored", "merged", "rejected")
        )
        assert values.get("varve_ingest_samples_total", 0) == parts
    assert parts == 9_000
