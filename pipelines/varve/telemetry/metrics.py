"""Every metric of Varve's own, declared in one place: name, unit, labels, meaning.

Names follow Prometheus' conventions: base units, the unit in the name, `_total` for what only
grows, and times as Unix timestamps rather than ages, since an age stands still with what tells it.
Labels have few values, known beforehand: nothing here grows with the data. docs/operations.md
lists the metrics and what to alert on; a test holds the two together. The file is long because the
list is, and a reader looks for a metric in one place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from varve.telemetry.registry import Declared, Telemetry

_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 120)
_BATCH_SECONDS = (0.1, 0.25, 0.5, 1, 2, 3, 5, 10, 20, 30, 60, 120)
_DELAY_SECONDS = (0.5, 1, 2, 3, 4, 5, 7.5, 10, 15, 20, 30, 60, 120, 300, 900, 3600)
_COMMIT_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)


class IngestMetrics:
    """The metrics of ingest queries. On every page, samples = stored + merged + all rejected."""

    def __init__(self, telemetry: Telemetry) -> None:
        counter, gauge = telemetry.counter, telemetry.gauge
        self.samples = counter(
            "varve_ingest_samples_total",
            "Samples read from Kafka: each is stored, merged or rejected.",
            *("query",),
            unit="samples",
        )
        self.stored = counter(
            "varve_ingest_stored_samples_total", "Samples stored.", "query", unit="samples"
        )
        self.merged = counter(
            "varve_ingest_merged_samples_total",
            "Copies of a sample of the same task, of which one was stored.",
            *("query",),
            unit="samples",
        )
        self.rejected = counter(
            "varve_ingest_rejected_samples_total",
            "Samples put into quarantine, by reason.",
            *("query", "reason"),
            unit="samples",
        )
        self.replayed = counter(
            "varve_ingest_replayed_samples_total",
            "Samples taken out of quarantine by the query itself, by what became of them.",
            *("query", "outcome"),
            unit="samples",
        )
        self.expired = counter(
            "varve_ingest_expired_samples_total",
            "Samples removed from quarantine: past retention.quarantine_days (cause age), or the"
            " oldest beyond retention.quarantine_bytes (cause size).",
            *("cause", "reason"),
            unit="samples",
        )
        self.messages = counter(
            "varve_ingest_messages_total", "Kafka messages read.", "query", unit="messages"
        )
        self.gaps = counter(
            "varve_ingest_dropped_messages_total",
            "Messages that Kafka had dropped before they were read.",
            *("query",),
            unit="messages",
        )
        self.read_bytes = counter(
            "varve_ingest_read_bytes_total",
            "Bytes of the messages read, as Kafka's values, before they are expanded.",
            *("query",),
            unit="bytes",
        )
        self.files = counter(
            "varve_ingest_written_files_total",
            "Files committed to samples and quarantine.",
            *("query",),
            unit="files",
        )
        self.written_bytes = counter(
            "varve_ingest_written_bytes_total", "Bytes of those files.", "query", unit="bytes"
        )
        self.cpu = counter(
            "varve_ingest_driver_cpu_seconds_total",
            "CPU time of the driver's thread that runs the batches; tasks are apart.",
            *("query",),
            unit="seconds",
        )
        self.batch = telemetry.histogram(
            "varve_ingest_batch_duration_seconds",
            "Time from the start of a batch until it is stored.",
            *("query",),
            buckets=_BATCH_SECONDS,
        )
        self.commit = telemetry.histogram(
            "varve_ingest_commit_duration_seconds",
            "Time the commits of a batch take.",
            *("query",),
            buckets=_COMMIT_SECONDS,
        )
        self.series = gauge(
            "varve_ingest_registered_series",
            "Series in the registry, as the query last saw it.",
            *("query",),
            unit="series",
        )
        self.active = gauge(
            "varve_ingest_active_series",
            "Series that count against limits, as the query last counted.",
            *("query",),
            unit="series",
        )
        self.awaited = gauge(
            "varve_ingest_undefined_series",
            "Series with samples in quarantine that wait for their definition.",
            *("query",),
            unit="series",
        )
        self.lag = gauge(
            "varve_ingest_lag_messages",
            "Messages that Kafka has and the table has not.",
            *("query", "topic", "partition"),
            unit="messages",
        )
        self.unread_age = gauge(
            "varve_ingest_unread_age_seconds",
            "The oldest message not yet stored is at most this old; 0 if all are stored.",
            *("query",),
            unit="seconds",
        )
        self.complete = gauge(
            "varve_ingest_complete_timestamp_seconds",
            "Everything produced up to this Unix time is stored.",
            *("query",),
            unit="seconds",
        )
        self.clock_error = gauge(
            "varve_ingest_clock_error_seconds",
            "How far this machine's clock is ahead of the time that ingest goes by; 0 while it is"
            " believed.",
            *("query",),
            unit="seconds",
        )


class AnomalyMetrics:
    """The metrics of what judges minutes by their baselines."""

    def __init__(self, telemetry: Telemetry) -> None:
        counter, gauge = telemetry.counter, telemetry.gauge
        self.frontier = gauge(
            "varve_anomaly_frontier_timestamp_seconds",
            "End of the last minute that was judged, Unix time; 0 before there are baselines.",
            unit="seconds",
        )
        self.deviations = counter(
            "varve_anomaly_deviations_total",
            "Minutes of series found far from their baseline.",
            unit="deviations",
        )
        self.events = counter(
            "varve_anomaly_events_total",
            "Events of episodes: openings, changes, ends, and what repairs made of them.",
            unit="events",
        )
        self.waiting = gauge(
            "varve_anomaly_events_waiting",
            "1 while events could not be sent when that was tried last, else 0.",
        )


class RollupMetrics:
    """The metrics of the rollups' tiers."""

    def __init__(self, telemetry: Telemetry) -> None:
        counter, gauge = telemetry.counter, telemetry.gauge
        self.frontier = gauge(
            "varve_rollup_frontier_timestamp_seconds",
            "End of the tier's last closed window, Unix time.",
            *("tier",),
            unit="seconds",
        )
        self.pending = gauge(
            "varve_rollup_pending_windows",
            "Windows that late samples have touched and no repair has reached; a range in which"
            " all are counts as one.",
            *("tier",),
            unit="windows",
        )
        self.behind = gauge(
            "varve_rollup_source_lag_versions",
            "Versions of the table below since the last that is known to be repaired in full; up to"
            " 1,000 when nothing is late.",
            *("tier",),
            unit="versions",
        )
        self.failing = gauge(
            "varve_rollup_failing",
            "1 while the tier failed when it was tried last and is tried again, else 0.",
            "tier",
        )
        self.unreadable = gauge(
            "varve_rollup_unreadable_files",
            "Files of the table below that cannot be read: windows wait for them.",
            *("tier",),
            unit="files",
        )
        self.rows = counter(
            "varve_rollup_rows_total",
            "Rows written, by what for: to close windows or to repair them.",
            *("tier", "work"),
            unit="rows",
        )
        self.refused = counter(
            "varve_rollup_refused_windows_total",
            "Late windows left as they were, because their samples have expired.",
            *("tier",),
            unit="windows",
        )
        self.written_bytes = counter(
            "varve_rollup_written_bytes_total", "Bytes of files committed.", "tier", unit="bytes"
        )
        self.conflicts = counter(
            "varve_rollup_conflicts_total",
            "Steps thrown away because a rival had moved the tier.",
            "tier",
        )
        self.step = telemetry.histogram(
            "varve_rollup_step_duration_seconds",
            "Time from planning a step of a tier until it is committed.",
            *("tier",),
            buckets=_BATCH_SECONDS,
        )
        self.commit = telemetry.histogram(
            "varve_rollup_commit_duration_seconds",
            "Time the commit of a step takes.",
            *("tier",),
            buckets=_COMMIT_SECONDS,
        )


class StreamMetrics:
    """The metrics of Structured Streaming itself, fed by its listener."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.running = telemetry.gauge(
            "varve_stream_running", "1 while Spark runs the stream, 0 after it has ended.", "stream"
        )
        self.phase = telemetry.counter(
            "varve_stream_phase_seconds_total",
            "Time Spark has spent in a phase of its triggers; our batches are not among them.",
            *("stream", "phase"),
            unit="seconds",
        )
        self.triggers = telemetry.counter(
            "varve_stream_triggers_total", "Triggers that had something to do.", "stream"
        )


class TableMetrics:
    """The metrics of tables and their logs."""

    def __init__(self, telemetry: Telemetry) -> None:
        gauge = telemetry.gauge
        self.version = gauge("varve_table_version", "The newest version.", "table")
        self.log = gauge(
            "varve_table_log_versions",
            "Versions since the last checkpoint: what opening the table must read.",
            *("table",),
            unit="versions",
        )
        self.files = gauge("varve_table_files", "Live files.", "table", unit="files")
        self.rows = gauge("varve_table_rows", "Rows of live files.", "table", unit="rows")
        self.size = gauge("varve_table_size_bytes", "Bytes of live files.", "table", unit="bytes")
        self.failures = telemetry.counter(
            "varve_table_look_failures_total",
            "Looks at a log that failed; the other figures are as they were.",
            "table",
        )


class NotifyMetrics:
    """The metrics of the notifier."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        counter, gauge = telemetry.counter, telemetry.gauge
        self.received = counter(
            "varve_notify_alerts_received_total", "Alerts received, by status.", "status"
        )
        self.invalid = counter("varve_notify_alerts_invalid_total", "Alerts refused.")
        self.alerts = gauge("varve_notify_alerts", "Alerts known, by status.", "status")
        self.groups = gauge("varve_notify_groups", "Groups of alerts.")
        self.silences = gauge("varve_notify_silences", "Silences, by state.", "state")
        self.messages = counter(
            "varve_notify_messages_total",
            "Messages that a receiver has taken, by receiver, integration and reason.",
            *("receiver", "integration", "reason"),
        )
        self.failures = counter(
            "varve_notify_failures_total",
            "Attempts that failed: refused ones are not tried again before the next look at the"
            " group, failed ones are.",
            *("receiver", "integration", "outcome"),
        )
        self.seconds = telemetry.histogram(
            "varve_notify_attempt_duration_seconds",
            "How long attempts took, by integration.",
            *("integration",),
            buckets=_REQUEST_SECONDS,
        )
        self.circuits = gauge(
            "varve_notify_circuit_open",
            "1 while an integration is left alone as it fails again and again.",
            *("receiver", "integration"),
        )
        self.requests = counter(
            "varve_notify_requests_total",
            "Requests answered, by route, method and HTTP status.",
            *("route", "method", "status"),
        )
        self.request_seconds = telemetry.histogram(
            "varve_notify_request_duration_seconds",
            "Time from a request's arrival to its answer, by route.",
            *("route",),
            buckets=_REQUEST_SECONDS,
        )
        self.config_ok = gauge(
            "varve_notify_config_last_reload_successful",
            "1 if the configuration in force is that of the file as it was last read.",
        )
        self.config_time = gauge(
            "varve_notify_config_last_reload_success_timestamp_seconds",
            "When the configuration in force was read.",
            unit="seconds",
        )
        self.storing = gauge(
            "varve_notify_storing", "1 if changes of the state are stored, 0 while they cannot be."
        )
        self.syncs = counter("varve_notify_syncs_total", "Syncs of the journal.")


class RulesMetrics:
    """Declares the metrics of what evaluates rules."""

    def __init__(self, telemetry: Telemetry) -> None:
        counter, gauge = telemetry.counter, telemetry.gauge
        self.telemetry = telemetry
        self.slots = counter(
            "varve_rules_evaluated_slots_total",
            "Evaluations of a group, by whether its data was complete (part all), was not (part"
            " alerting), or came later (part recording).",
            *("part",),
        )
        self.late = counter(
            "varve_rules_late_slots_total",
            "Evaluations that were missed when due, and made up for.",
        )
        self.skipped = counter(
            "varve_rules_skipped_slots_total",
            "Evaluations that were left out, being older than rules.catch_up_s.",
        )
        self.failures = counter("varve_rules_failures_total", "Evaluations of a rule that failed.")
        self.repeated = counter(
            "varve_rules_repeated_claims_total",
            "Claims of a process before this one that were evaluated again.",
        )
        self.conflicts = counter(
            "varve_rules_conflicts_total", "Commits in which another process was faster."
        )
        self.reviews = counter(
            "varve_rules_reviewed_alerts_total",
            "Changes of alerts without all their data, by what all of it says: same, different.",
            *("outcome",),
        )
        self.delay = telemetry.histogram(
            "varve_rules_delay_seconds",
            "From the time an evaluation is for to its end.",
            buckets=_DELAY_SECONDS,
        )
        self.round = telemetry.histogram(
            "varve_rules_round_duration_seconds",
            "A claim and the evaluations of all its groups.",
            buckets=_BATCH_SECONDS,
        )
        self.evaluated = gauge(
            "varve_rules_evaluated_timestamp_seconds",
            "The time that the group which is furthest behind was last evaluated for.",
            unit="seconds",
        )
        self.groups = gauge("varve_rules_groups", "Groups that this process evaluates.")
        self.shards = gauge("varve_rules_shards", "Shards that this process holds.")
        self.firing = gauge("varve_rules_firing_alerts", "Alerts of this process that fire.")
        self.unacknowledged = gauge(
            "varve_rules_open_claims", "Claims whose samples Kafka has not acknowledged yet."
        )
        self.overlaid = gauge(
            "varve_rules_overlaid_samples",
            "Samples in memory that rules wrote and tables may not have yet.",
            unit="samples",
        )
        self.samples = counter(
            "varve_rules_samples_total", "Samples sent to Kafka.", unit="samples"
        )
        self.histograms = counter(
            "varve_rules_unstorable_samples_total",
            "Histograms that rules recorded, which tables cannot hold.",
            unit="samples",
        )
        self.output_failures = counter(
            "varve_rules_output_failures_total",
            "Attempts to give samples and events to Kafka that failed.",
        )
        self.job_events = counter(
            "varve_rules_job_events_total",
            "Events of other jobs on the topic alerts: taken, repeated (known already), refused (no"
            " event).",
            *("outcome",),
        )
        self.job_alerts = gauge(
            "varve_rules_job_alerts",
            "Alerts of other jobs that fire, where this process tells them.",
        )
        self.alerts_sent = counter(
            "varve_rules_sent_alerts_total",
            "Alerts that a notifier has taken, resent ones as well.",
            *("notifier",),
        )
        self.alerts_dropped = counter(
            "varve_rules_dropped_alerts_total",
            "Alerts that a notifier refused or that found no room in its queue; they are sent again"
            " after rules.resend_delay_s.",
            *("notifier",),
        )
        self.alerts_waiting = gauge(
            "varve_rules_waiting_alerts", "Alerts that wait for a notifier.", "notifier"
        )
        self.send_failures = counter(
            "varve_rules_send_failures_total", "Requests to a notifier that failed.", "notifier"
        )
        self.files_ok = gauge(
            "varve_rules_files_ok", "1 if the files of rules could be read when last looked at."
        )


class QueryMetrics:
    """The metrics of the query service."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        counter, gauge = telemetry.counter, telemetry.gauge
        self.requests = counter(
            "varve_query_requests_total",
            "Requests answered, by route and HTTP status.",
            *("route", "status"),
        )
        self.seconds = telemetry.histogram(
            "varve_query_request_duration_seconds",
            "Time from a request's arrival to its answer, by route.",
            *("route",),
            buckets=_REQUEST_SECONDS,
        )
        self.waiting = gauge(
            "varve_query_waiting_requests",
            "Requests that wait for their turn, by kind: queries, metadata, sql.",
            "kind",
        )
        self.shed = counter(
            "varve_query_shed_requests_total",
            "Requests that were sent away as too many waited, by kind.",
            "kind",
        )
        self.samples = counter(
            "varve_query_samples_total",
            "Samples that evaluations have read, each once for every window that it was in.",
            unit="samples",
        )
        self.series = gauge("varve_query_series", "Series in the label index.", unit="series")
        self.cached_bytes = gauge(
            "varve_query_cache_bytes", "Decoded samples held in memory.", unit="bytes"
        )
        self.memory = gauge(
            "varve_query_memory_bytes",
            "Counts against query.memory_mb: index, head, row_groups, selections, steps, queries.",
            "use",
            unit="bytes",
        )
        self.version = gauge(
            "varve_query_table_version", "Version of each table that queries read now.", "table"
        )
        self.complete = gauge(
            "varve_query_complete_timestamp_seconds",
            "Everything produced up to this Unix time can be queried; NaN while unknown.",
            unit="seconds",
        )
        self.complete.set(math.nan)
        self.poll_failures = counter(
            "varve_query_poll_failures_total",
            "Looks at the tables' logs that failed and were tried again.",
        )


@dataclass(frozen=True, slots=True)
class Usage:
    """CPU time since their start, and memory, of a group of processes."""

    cpu_s: float
    rss_bytes: int


@dataclass(frozen=True, slots=True)
class ComponentUse:
    """What `varve up` measures of one component."""

    ready: bool
    """True also for a task that is done."""
    restarts: int
    usage: Usage
    held: bool = False
    """Kept from running, because the disk is full, say."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes free on the disk of the home or of the tables, and how many have to be."""

    free_bytes: int
    floor_bytes: int


def declare_parts(telemetry: Telemetry, read: Callable[[], Mapping[str, Usage]]) -> None:
    """Declares CPU and memory of the processes of a Spark job. read: gives them by driver, jvm and
    workers, whenever the page is read.
    """
    cpu = Declared(
        "varve_process_cpu_seconds_total",
        "counter",
        ("part",),
        "CPU time of the driver, the JVM and the Python workers.",
    )
    rss = Declared(
        "varve_process_resident_memory_bytes",
        "gauge",
        ("part",),
        "Their resident memory; pages that they share count in each.",
    )

    def families() -> Iterator[Metric]:
        used = read()
        seconds = CounterMetricFamily(cpu.name, cpu.help, labels=cpu.labels, unit="seconds")
        memory = GaugeMetricFamily(rss.name, rss.help, labels=rss.labels, unit="bytes")
        for part, usage in used.items():
            seconds.add_metric([part], usage.cpu_s)
            memory.add_metric([part], usage.rss_bytes)
        yield from (seconds, memory)

    telemetry.computed(cpu, rss, read=families)


def declare_components(
    telemetry: Telemetry, read: Callable[[], Mapping[str, ComponentUse]]
) -> None:
    """Declares what `varve up` knows of its components. read: gives it by component, whenever the
    page is read.
    """
    label = ("component",)
    up = Declared("varve_component_up", "gauge", label, "1 while the component is ready, else 0.")
    held = Declared(
        "varve_component_held",
        "gauge",
        label,
        "1 while it is kept from running: the disk is full, or what it needs does not run.",
    )
    restarts = Declared(
        "varve_component_restarts_total", "counter", label, "Times it was started again."
    )
    cpu = Declared(
        "varve_component_cpu_seconds_total", "counter", label, "CPU time, children included."
    )
    rss = Declared(
        "varve_component_resident_memory_bytes",
        "gauge",
        label,
        "Resident memory, children included; pages that they share count in each.",
    )

    def families() -> Iterator[Metric]:
        ready = GaugeMetricFamily(up.name, up.help, labels=label)
        waits = GaugeMetricFamily(held.name, held.help, labels=label)
        again = CounterMetricFamily(restarts.name, restarts.help, labels=label)
        seconds = CounterMetricFamily(cpu.name, cpu.help, labels=label, unit="seconds")
        memory = GaugeMetricFamily(rss.name, rss.help, labels=label, unit="bytes")
        for name, component in read().items():
            ready.add_metric([name], component.ready)
            waits.add_metric([name], component.held)
            again.add_metric([name], component.restarts)
            seconds.add_metric([name], component.usage.cpu_s)
            memory.add_metric([name], component.usage.rss_bytes)
        yield from (ready, waits, again, seconds, memory)

    telemetry.computed(up, held, restarts, cpu, rss, read=families)


def declare_disks(telemetry: Telemetry, read: Callable[[], Mapping[str, DiskSpace]]) -> None:
    """The disks `varve up` writes to: where the home is, and the tables if they are elsewhere."""
    label = ("what",)
    free = Declared(
        "varve_disk_free_bytes", "gauge", label, "Bytes free where the home or the tables are."
    )
    floor = Declared(
        "varve_disk_floor_bytes", "gauge", label, "Bytes below which components wait for room."
    )

    def families() -> Iterator[Metric]:
        left = GaugeMetricFamily(free.name, free.help, labels=label, unit="bytes")
        least = GaugeMetricFamily(floor.name, floor.help, labels=label, unit="bytes")
        for what, space in read().items():
            left.add_metric([what], space.free_bytes)
            least.add_metric([what], space.floor_bytes)
        yield from (left, least)

    telemetry.computed(free, floor, read=families)


class CollectorMetrics:
    """The metrics of the collector."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        self.sent = telemetry.counter(
            "varve_collector_samples_total", "Samples that Kafka has acknowledged.", unit="samples"
        )
        self.lost = telemetry.counter(
            "varve_collector_samples_lost_total", "Samples that never reached Kafka."
        )
        self.unreadable = telemetry.gauge(
            "varve_collector_unreadable_parts",
            "Mounts, disks and interfaces that the last scrape could not read.",
            "collector",
            unit="parts",
        )
        self.waiting = telemetry.gauge(
            "varve_collector_waiting_samples",
            "Samples sent and not acknowledged yet.",
            unit="samples",
        )


class ScrapeMetrics:
    """The metrics of scraping, besides those of the road, which are the gateway's."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.scrapes = telemetry.counter(
            "varve_scrape_scrapes_total",
            "Scrapes, by whether the target was up.",
            *("job", "outcome"),
            unit="scrapes",
        )
        self.scrape = telemetry.histogram(
            "varve_scrape_duration_seconds",
            "Time until a target's body had come, or until it had failed.",
            *("job",),
            buckets=_REQUEST_SECONDS,
        )
        self.targets = telemetry.gauge(
            "varve_scrape_targets",
            "Targets, by their health as of the last scrape.",
            *("job", "health"),
            unit="targets",
        )
        self.missed = telemetry.gauge(
            "varve_scrape_missed_intervals",
            "Intervals of present targets that passed without a scrape: the one before still ran.",
            *("job",),
        )
        self.config_ok = telemetry.gauge(
            "varve_scrape_config_last_reload_successful",
            "Whether the configuration file could be used when it was last read.",
        )
        self.config_ok.set(1)


class StatsdMetrics:
    """The metrics of StatsD, besides those of the gateway."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.lines = telemetry.counter(
            "varve_statsd_lines_total",
            "Lines of StatsD that came, those that were refused among them.",
            *(),
            unit="lines",
        )
        self.rejected = telemetry.counter(
            "varve_statsd_rejected_lines_total",
            "Lines of StatsD that were refused in whole or in part.",
            *(),
            unit="lines",
        )
        self.dropped = telemetry.counter(
            "varve_statsd_dropped_packets_total",
            "Packets of UDP that the kernel dropped: they came faster than they were read.",
            *(),
            unit="packets",
        )
        self.series = telemetry.gauge(
            "varve_statsd_series", "Series of StatsD that are kept.", unit="series"
        )


class GatewayMetrics:
    """The metrics of the gateway. At rest, received = acknowledged + spooled + refused, of samples
    and of the others.
    """

    def __init__(self, telemetry: Telemetry) -> None:
        self.telemetry = telemetry
        counter, gauge = telemetry.counter, telemetry.gauge
        self.requests = counter(
            "varve_gateway_requests_total",
            "Requests to write, by the status of their answer.",
            *("protocol", "code"),
            unit="requests",
        )
        self.request = telemetry.histogram(
            "varve_gateway_request_duration_seconds",
            "Time from the head of a request to write until its answer.",
            *("protocol",),
            buckets=_REQUEST_SECONDS,
        )
        self.received_bytes = counter(
            "varve_gateway_received_bytes_total",
            "Bytes of the bodies of requests, as they were sent.",
            *("protocol",),
            unit="bytes",
        )
        self.received = counter(
            "varve_gateway_received_samples_total",
            "Samples decoded: each is acknowledged, spooled or refused.",
            *("protocol",),
            unit="samples",
        )
        self.acknowledged = counter(
            "varve_gateway_acknowledged_samples_total",
            "Samples that Kafka has acknowledged, without those sent from the spool.",
            *("topic",),
            unit="samples",
        )
        self.spooled = counter(
            "varve_gateway_spooled_samples_total",
            "Samples synced in the spool, to be sent later.",
            *("topic",),
            unit="samples",
        )
        self.refused = counter(
            "varve_gateway_refused_samples_total",
            "Samples refused, by reason; the reason replica is a pair's other replica.",
            *("reason",),
            unit="samples",
        )
        self.received_others = counter(
            "varve_gateway_received_other_total",
            "Native histograms and exemplars decoded: each is acknowledged, spooled or refused.",
            *("protocol",),
        )
        self.acknowledged_others = counter(
            "varve_gateway_acknowledged_other_total",
            "Native histograms and exemplars that Kafka has acknowledged, without those sent from"
            " the spool.",
            *("topic",),
        )
        self.spooled_others = counter(
            "varve_gateway_spooled_other_total",
            "Native histograms and exemplars synced in the spool, to be sent later.",
            *("topic",),
        )
        self.refused_others = counter(
            "varve_gateway_refused_other_total",
            "Native histograms and exemplars refused, by reason.",
            *("reason",),
        )
        self.starts = counter(
            "varve_gateway_start_samples_total",
            "Zeros written where counters said they had started.",
            *(),
            unit="samples",
        )
        self.defined = counter(
            "varve_gateway_defined_series_total",
            "Definitions of series sent, of new ones and again every ten minutes.",
            *(),
            unit="series",
        )
        self.known = gauge(
            "varve_gateway_known_series", "Series known by their labels.", unit="series"
        )
        self.in_flight = gauge(
            "varve_gateway_in_flight_bytes",
            "Bytes of requests that are being read or decoded.",
            unit="bytes",
        )
        self.waiting = gauge(
            "varve_gateway_waiting_bytes",
            "Bytes of messages that wait for Kafka's acknowledgement.",
            *("topic",),
            unit="bytes",
        )
        self.kafka_up = gauge(
            "varve_gateway_kafka_up",
            "Whether Kafka takes messages: 0 while they go to the spool.",
            *("topic",),
        )
        self.spool_size = gauge(
            "varve_gateway_spool_bytes", "Bytes in the spool.", "topic", unit="bytes"
        )
        self.spool_age = gauge(
            "varve_gateway_spool_age_seconds",
            "How long the oldest message of the spool has waited; 0 if it is empty.",
            *("topic",),
            unit="seconds",
        )
        self.spool_damaged = gauge(
            "varve_gateway_spool_damaged_bytes",
            "Bytes of the spool behind a damaged record, kept aside since the start.",
            *("topic",),
            unit="bytes",
        )


class MaintenanceMetrics:
    """Declares the metrics of what keeps the tables small."""

    def __init__(self, telemetry: Telemetry) -> None:
        self.live_files = telemetry.gauge(
            "varve_maintenance_live_files", "Files of the newest version of a table.", "table"
        )
        self.files_merged = telemetry.counter(
            "varve_maintenance_merged_files_total",
            "Files that were replaced by merged ones.",
            *("table",),
            unit="files",
        )
        self.rows_written = telemetry.counter(
            "varve_maintenance_written_rows_total",
            "Rows written again by merging.",
            *("table",),
            unit="rows",
        )
        self.rows_expired = telemetry.counter(
            "varve_maintenance_expired_rows_total",
            "Rows deleted because they were older than their retention.",
            *("table",),
            unit="rows",
        )
        self.series_trimmed = telemetry.counter(
            "varve_maintenance_trimmed_series_total",
            "Series whose definition has gone, as no table had a row of them any more.",
            unit="series",
        )
        self.files_moved = telemetry.counter(
            "varve_maintenance_moved_files_total",
            "Files that a colder root has taken over.",
            *("table",),
            unit="files",
        )
        self.files_deleted = telemetry.counter(
            "varve_maintenance_deleted_files_total",
            "Files deleted because no version of the last hours needs them.",
            *("table",),
            unit="files",
        )
        self.failures = telemetry.counter(
            "varve_maintenance_failures_total",
            "Pieces of work that failed and are tried again at the next look.",
            *("table", "work"),
        )
