"""The gateway for ../shared/wiretest: its HTTP application over a sink in memory.

The judge's packages, `wiretest` and `promqltest`, are imported here alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from promqltest.adapter import STALE_NAN, NativeHistogram  # type: ignore[import-not-found]
from pydantic import TypeAdapter, ValidationError
from wiretest.adapter import (  # type: ignore[import-not-found]
    Answer,
    Exemplar,
    Flush,
    Metadata,
    Parsed,
    Refused,
    Request,
    Sample,
)

from varve.access.credentials import Credentials
from varve.gateway.app import GatewayApp
from varve.gateway.batcher import Batcher
from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.exposition.formats import format_of
from varve.gateway.exposition.known_lines import KnownLines
from varve.gateway.exposition.samples import ExposedSample, InvalidExposition
from varve.gateway.first_sight import Input, Targets
from varve.gateway.histograms import HistogramSample
from varve.gateway.messages import SampleColumns, TargetMessage, encode
from varve.gateway.otlp.config import read_otlp_config
from varve.gateway.otlp.delta import DeltaTotals
from varve.gateway.otlp.http import OtlpHttp
from varve.gateway.push import PushProtocol
from varve.gateway.quotas import Quota, Quotas
from varve.gateway.remote_write import RemoteWriteDecoder
from varve.gateway.remote_write_http import RemoteWrite
from varve.gateway.replicas import Replicas
from varve.gateway.scrape.config import ScrapeConfig, parse_config
from varve.gateway.scrape.relabel import RelabelConfig, relabel
from varve.gateway.scrape.targets import static_groups, targets_of
from varve.gateway.series_table import SeriesTable
from varve.gateway.startup import make_ready
from varve.gateway.statsd.aggregation import Aggregation
from varve.gateway.write_request import Message
from varve.model.identity import SeriesDefinition
from varve.notify.config.document import ConfigError, read_document
from varve.promql.histograms.native_histogram import FloatHistogram

_FUTURE_MS = 600_000
_OLDEST_MS = -(1 << 62)


class Adapter:
    """What `wiretest.adapter.Adapter` asks for, as far as the gateway takes it."""

    def __init__(self) -> None:
        make_ready()

    def receive(self, request: Request) -> Answer:
        return asyncio.run(_received(request))

    def parse(self, body: bytes, content_type: str) -> Parsed:
        try:
            known, kind = KnownLines(), format_of(content_type)
            known.read(body, kind)
            found = known.read(body, kind)  # what was here before is read by a kernel
        except InvalidExposition as bad:
            raise Refused(str(bad)) from bad
        metadata = {n: Metadata(m.type, m.help, m.unit) for n, m in found.metadata.items()}
        return Parsed([_exposed(sample) for sample in known.samples(found)], metadata)

    def statsd(self, packets: Sequence[bytes], flush_ms: int, buckets: Sequence[float]) -> Flush:
        aggregation = Aggregation(buckets)
        for packet in packets:
            aggregation.take(packet, flush_ms)
        flushed = aggregation.flush(flush_ms).message()
        answer = asyncio.run(_taken(flushed))
        return Flush(answer.samples, aggregation.rejected)

    def relabel(self, rules: str, labels: Mapping[str, str]) -> dict[str, str] | None:
        document = read_document(rules, "rules")
        try:
            parsed = _RULES.validate_python(document.value or [])
        except ValidationError as err:
            raise Refused(str(err)) from err
        return relabel(parsed, labels)

    def configure(self, config: str) -> dict[str, Any]:
        try:
            found = parse_config(config, "prometheus.yml", Path())
        except ConfigError as bad:
            raise Refused(str(bad)) from bad
        return {
            "external_labels": dict(found.external_labels),
            "jobs": [_job(job) for job in found.jobs],
        }


_RULES = TypeAdapter(tuple[RelabelConfig, ...])


def _job(job: ScrapeConfig) -> dict[str, Any]:
    targets = targets_of(job, static_groups(job))
    same = (
        *("metrics_path", "scheme", "honor_labels", "honor_timestamps"),
        *("track_timestamps_staleness", "sample_limit", "label_limit", "label_name_length_limit"),
        *("label_value_length_limit", "target_limit"),
    )
    return {name: getattr(job, name) for name in same} | {
        "job": job.job_name,
        "scrape_interval_ms": job.scrape_interval,
        "scrape_timeout_ms": job.scrape_timeout,
        "body_size_limit_bytes": job.body_size_limit,
        "discovery": job.discoveries(),
        "targets": [{"url": t.url, "labels": dict(t.labels)} for t in targets.active.values()],
        "failed_targets": len(targets.failures),
    }


class _Memory:
    """Takes what would go to Kafka: the lane of the bulk topic, and the columns before they become
    messages, which have the starts.
    """

    def __init__(self) -> None:
        self.samples: list[Sample] = []
        self.exemplars: list[tuple[dict[str, str], Exemplar]] = []
        self.metadata: dict[str, Metadata] = {}
        self._labels: dict[int, dict[str, str]] = {}

    def deliver(self, messages: Sequence[TargetMessage]) -> asyncio.Future[None]:  # noqa: ARG002
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        done.set_result(None)
        return done

    def encode(
        self, columns: SampleColumns, definitions: Mapping[int, Sequence[SeriesDefinition]]
    ) -> Iterable[TargetMessage]:
        for defined in definitions.values():
            self._labels |= {d.series_id: _labels(d) for d in defined}
        for row in range(columns.rows):
            start = int(columns.starts[row])
            if start >= 0:
                labels = self._labels[int(columns.ids[row])]
                value, ts = float(columns.values[row]), int(columns.ts[row])
                self.samples.append(Sample(labels, value, ts, start))
        return encode(columns, definitions)

    def take(self, found: Decoded) -> None:
        for definition, histogram in found.histograms:
            value, ts = _histogram(histogram), histogram.ts_ms
            self.samples.append(Sample(_labels(definition), value, ts, histogram.start_ms))
        for definition, e in found.exemplars:
            self.exemplars.append((_labels(definition), Exemplar(dict(e.labels), e.value, e.ts_ms)))
        for name, said in found.metadata.items():
            self.metadata[name] = Metadata(said.type, said.help, said.unit)


class _Unmetered:
    def request(self, protocol: str, status: int, seconds: float, size: int) -> None: ...

    def decoded(self, protocol: str, found: Decoded) -> None: ...

    def page(self, accept: str) -> tuple[bytes, str]:
        raise NotImplementedError


async def _taken(message: Message) -> _Memory:
    """What a message that came by another way than HTTP holds."""
    memory = _Memory()
    app = _app(memory, Bounds(_OLDEST_MS, 1 << 62), (RemoteWrite(),))
    await app.take("statsd", lambda: message, message.content.nbytes, "", "")
    return memory


def _app(memory: _Memory, bounds: Bounds, protocols: Sequence[PushProtocol]) -> GatewayApp:
    decoder = RemoteWriteDecoder(SeriesTable(lambda: 1, 1 << 20), Targets(4), Replicas())
    batcher = Batcher(decoder, memory, None, wait_s=0.0, encode=memory.encode)
    unlimited = Quotas(lambda: 0.0, Quota(), Quota())
    return GatewayApp(
        batcher,
        Credentials({}, {}),
        unlimited,
        lambda _: Input(),
        lambda: bounds,
        _Unmetered(),
        protocols=protocols,
        after=memory.take,
    )


async def _received(request: Request) -> Answer:
    memory = _Memory()
    totals = DeltaTotals(lambda: 0.0) if request.delta else None
    bounds = Bounds(_OLDEST_MS, request.now_ms + _FUTURE_MS)
    otlp = OtlpHttp(read_otlp_config(request.otlp), totals)
    app = _app(memory, bounds, (RemoteWrite(), otlp))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": request.body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": request.path,
        "client": ("127.0.0.1", 1),
        "headers": [(k.lower().encode(), v.encode()) for k, v in request.headers.items()],
    }
    await app(scope, receive, send)
    headers = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], headers, memory.samples, memory.exemplars, memory.metadata)


def _labels(definition: SeriesDefinition) -> dict[str, str]:
    return {"__name__": definition.metric} | dict(definition.tags)


def _exposed(sample: ExposedSample) -> Sample:
    exemplars = tuple(Exemplar(dict(e.labels), e.value, e.ts_ms) for e in sample.exemplars)
    value = sample.value if isinstance(sample.value, float) else _native(sample.value)
    return Sample(dict(sample.labels), value, sample.ts_ms, sample.start_ms, exemplars)


def _histogram(sample: HistogramSample) -> float | NativeHistogram:
    return float(STALE_NAN) if sample.histogram is None else _native(sample.histogram)


def _native(found: FloatHistogram) -> NativeHistogram:
    return NativeHistogram(
        found.schema,
        found.count,
        found.sum,
        found.zero_threshold,
        found.zero_count,
        dict(found.positive),
        dict(found.negative),
        found.custom_values,
        found.hint,
    )
