"""The gateway: address, who may write, what a sender may send, the spool."""

from __future__ import annotations

import itertools
from typing import ClassVar, Literal

from pydantic import Field, field_validator

from varve.settings.listener import Listener
from varve.settings.section import Section


class SenderQuota(Section):
    """What one sender may send."""

    samples_per_second: float = Field(0, ge=0)
    """Samples a second, of the bulk and the critical topic each. 0: no bound. A sender may save up
    ten seconds of it."""
    bytes_per_second: float = Field(0, ge=0)
    """Bytes a second, as they are sent. 0: no bound."""
    new_series_per_second: float = Field(0, ge=0)
    """New series a second. 0: no bound."""


class Gateway(Listener):
    enabled: bool = False
    """Whether `varve up` starts the gateway. `varve up --demo` does in any case."""
    port: int = Field(9693, ge=1, le=65535)
    """Port it listens on. 9693: next to the other services."""
    processes: int = Field(1, ge=1, le=256)
    """Processes that share the port, for more than one core: about one takes 2.5 M samples a
    second. Bounds and quotas below, and the spool's, are those of each."""
    external_labels: dict[str, str] = Field(default_factory=dict)
    """Labels that every series gets which has none of the name."""
    sender_labels: dict[str, str] = Field(default_factory=dict)
    """The same for the series of one token or user, by its name, written as {region="eu"}."""
    critical: str = ""
    """Series that go to the topic of critical samples: selectors of PromQL joined by `or`, such as
    up or {severity="page"}. Empty: none."""
    replica_failover_s: float = Field(30, gt=0)
    """Seconds after which a pair's other replica leads (labels cluster and __replica__). 30: two
    scrapes are missed, as everywhere."""
    otlp_file: str = ""
    """A prometheus.yml whose section `otlp:` says how OTLP's names and attributes are translated.
    Empty: Prometheus' defaults."""
    otlp_deltas: bool = True
    """Whether deltas of OTLP are added up to totals here. Prometheus refuses them by default; with
    several gateways one sender's must all come to the same one."""
    otlp_delta_series: int = Field(1_000_000, gt=0)
    """Series of deltas whose totals are kept; those beyond are refused. 1 M: a gigabyte."""
    otlp_delta_forgotten_s: int = Field(3_600, gt=0)
    """Seconds after which the total of a silent series of deltas may be forgotten; its next point
    begins a new one. 3,600: longer than any sender pauses."""
    otlp_grpc_port: int = Field(0, ge=0, le=65535)
    """Port of OTLP over gRPC, 4317 being what senders expect. 0: off."""
    statsd_port: int = Field(0, ge=0, le=65535)
    """Port of StatsD and DogStatsD by UDP and TCP, 8125 being what senders expect. 0: off."""
    statsd_host: str = Field("127.0.0.1", min_length=1)
    """Address that StatsD's port is on. It has no login: whoever reaches it can write."""
    statsd_socket: str = ""
    """Path of a Unix socket for DogStatsD's datagrams. Empty: none."""
    statsd_flush_s: float = Field(10, gt=0)
    """Seconds between flushes of StatsD. 10, as everywhere."""
    statsd_buckets: str = "0.005,0.01,0.025,0.05,0.1,0.25,0.5,1,2.5,5,10"
    """Upper bounds, comma separated, of the histograms that timers, histograms and distributions
    become; timers in seconds."""
    statsd_histograms: Literal["classic", "native"] = "classic"
    """What timers, histograms and distributions of StatsD become: classic histograms with those
    bounds, or native ones, which need none, in buckets 9 % wide, wider where there would be over
    160."""
    statsd_series: int = Field(1_000_000, gt=0)
    """Series of StatsD that are kept. 1 M: a gigabyte; lines of more are refused and counted."""
    statsd_forgotten_s: int = Field(3_600, gt=0)
    """Seconds after which a series of StatsD without lines ends. 3,600: longer than any job
    pauses."""
    pushed_every_s: float = Field(15, gt=0)
    """Seconds between samples of what was pushed as to a Pushgateway. 15: three fit a lookback of
    a minute."""
    pushed_series: int = Field(100_000, gt=0)
    """Series of all pushed groups. 100,000: each costs a sample every time."""
    batch_samples: int = Field(16_000, gt=0)
    """Samples that share messages and an acknowledgement. 16,000: a third less CPU than one request
    each, from Kafka to the tables too."""
    batch_ms: float = Field(3, ge=0)
    """Milliseconds that a request waits for others to share with. 3: no sender notices."""
    compression: str = Field("none", pattern="^(none|gzip|zstd)$")
    """How batches to Kafka are compressed: none, gzip or zstd. none: a third more samples a CPU
    second; zstd: where the network or the broker's disk is what is short."""
    ack_s: float = Field(3, gt=0)
    """Seconds Kafka has to acknowledge a batch before it is spooled. 3: far below a sender's 30."""
    waiting_mb: int = Field(64, ge=1)
    """MiB that wait for Kafka's acknowledgement, by topic; more goes to the spool at once. 64: some
    two million samples."""
    spool: str = ""
    """Folder of messages that Kafka could not take. Empty: gateway-spool in the home."""
    spool_mb: int = Field(1_024, ge=1)
    """MiB the spool of a topic may take; beyond it senders get 503. 1,024: 38 million samples."""
    spool_max_age_s: int = Field(86_400, gt=0)
    """Seconds the oldest spooled message may wait; beyond it senders get 503. One day: long before
    ingest would find its samples too old."""
    max_body_bytes: int = Field(8 * 2**20, gt=0)
    """Bytes of a request as it is sent. 8 MiB: a hundred times what Prometheus sends."""
    max_expanded_bytes: int = Field(32 * 2**20, gt=0)
    """Bytes of a request once it is expanded. 32 MiB: whatever it claims, no more is taken."""
    max_in_flight_mb: int = Field(128, ge=1)
    """MiB of all requests that are being read; beyond it senders get 503. 128: thousands of usual
    ones."""
    max_series: int = Field(5_000_000, gt=0)
    """Series it knows by their labels, 128 to 400 bytes each. 5 M, as in conf/limits.toml; with
    more, definitions are sent again and again."""
    per_token: SenderQuota = SenderQuota()
    per_address: SenderQuota = SenderQuota()

    _what_anybody_could: ClassVar[str] = "write"

    @field_validator("statsd_buckets")
    @classmethod
    def _ascends(cls, text: str) -> str:
        bounds = _numbers(text)
        if not bounds or any(a >= b for a, b in itertools.pairwise(bounds)):
            raise ValueError("is a list of ascending numbers such as 0.1,1,10")
        return text

    def statsd_bounds(self) -> tuple[float, ...]:
        """Upper bounds of StatsD's histograms."""
        return _numbers(self.statsd_buckets)


def _numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        return ()
