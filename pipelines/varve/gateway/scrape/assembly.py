"""What becomes of a scrape: labels of the target, relabelling, limits, staleness markers, and the
samples that report it. Pure: times are arguments.

Source: Prometheus, scrape/scrape.go, scrapeLoop.append, mutateSampleLabels, report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from varve.gateway.exposition.lines import Known
from varve.gateway.exposition.samples import ExposedExemplar, ExposedSample, Exposition
from varve.gateway.first_sight import Exemplar, Metadata
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.relabel import relabel
from varve.gateway.scrape.targets import Target
from varve.gateway.write_request import STALE, Labels, Symbols, WriteRequest, WrittenSeries

Key = tuple[tuple[str, str], ...]
"""Sorted labels of a series."""

_NOTHING = Metadata()
_LEGACY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
# How much more than the last scrape had may be remembered before it is forgotten.
_REMEMBERED = 2
_REMEMBERED_AT_LEAST = 1_000


class ScrapeRefused(ValueError):
    """A scrape is dropped as a whole, and its target counts as down; the text says why."""

    def __init__(self, text: str, counts: Counts | None = None) -> None:
        super().__init__(text)
        self.counts = counts or Counts()


@dataclass(frozen=True, slots=True)
class Counts:
    """Samples of a body, those left of them by relabelling, and series that are new."""

    scraped: int = 0
    kept: int = 0
    added: int = 0


@dataclass(frozen=True, slots=True)
class Report:
    """What the samples that report a scrape say."""

    duration_s: float
    is_up: bool = True
    counts: Counts = Counts()
    body_bytes: int = 0


class _Series:
    """A series of a target."""

    __slots__ = ("at_ms", "epoch", "key", "scrape", "seen", "written")

    def __init__(self, key: Key, written: WrittenSeries) -> None:
        self.key = key
        self.written = written
        self.scrape = 0
        """The last scrape in which it was alive."""
        self.seen = 0
        """The last scrape that had it, with times of its own or without."""
        self.at_ms = 0
        """The time of its last sample."""
        self.epoch = -1
        """Up to which scrape that went well it counts as one that was there."""


@dataclass
class _Scrape:
    """What was taken of a scrape so far."""

    request: WriteRequest
    number: int
    alive: list[_Series] = field(default_factory=list)
    scraped: int = 0
    kept: int = 0
    added: int = 0

    def counts(self) -> Counts:
        return Counts(self.scraped, self.kept, self.added)


class Assembly:
    """The state of a target's scrapes: which series are alive, which labels became which."""

    def __init__(self, job: ScrapeConfig, target: Target) -> None:
        self.known: dict[str, Known] = {}
        """For the parser of the next body."""
        self.metadata: Mapping[str, Metadata] = {}
        """As the last scrape that went well has it."""
        self._job = job
        self._target = target
        self._alive: list[_Series] = []
        self._reported = False
        self._scrapes = self._epoch = 0
        self._symbols = Symbols()
        self._exposed: dict[int, tuple[Labels, _Series | None]] = {}
        self._finals: dict[Key, _Series | None] = {}
        self._series: dict[Key, _Series] = {}

    def take(
        self, found: Exposition, ts_ms: int, duration_s: float, body_bytes: int
    ) -> tuple[WriteRequest, Report]:
        """The samples of a scrape, staleness markers of series that are gone, and its report.
        Raises ScrapeRefused; then `fail` is to be called.
        """
        scrape = self._read(found.samples, found.metadata, ts_ms)
        self._epoch += 1
        for series in self._alive:
            if series.scrape != scrape.number:
                scrape.request.add(series.key, STALE, ts_ms)
        self._alive = scrape.alive
        self.metadata = found.metadata
        report = Report(duration_s, True, scrape.counts(), body_bytes)
        self._report(scrape.request, report, ts_ms)
        self._forget(scrape.scraped)
        return scrape.request, report

    def counts_before(self, samples: Sequence[ExposedSample]) -> Counts:
        """What a body counts for that was read up to something invalid."""
        try:
            return self._read(samples, {}, 0).counts()
        except ScrapeRefused as refused:
            return refused.counts
        finally:  # nothing was said of these series: the next scrape says it
            self._series = {s.key: s for s in self._series.values() if s.written.tail}
            self._forget_exposed()

    def fail(
        self, ts_ms: int, duration_s: float, counts: Counts = Counts(), body_bytes: int = 0
    ) -> tuple[WriteRequest, Report]:
        """What a scrape that failed says: every series ends, the target is down. counts: of a body
        that came and was refused.
        """
        request = WriteRequest()
        for series in self._alive:
            request.add(series.key, STALE, ts_ms)
        self._alive = []
        report = Report(duration_s, False, counts, body_bytes)
        self._report(request, report, ts_ms)
        return request, report

    def end(self, ts_ms: int) -> WriteRequest:
        """What the end of a target says: every series ends, also those that report it."""
        request = WriteRequest()
        for series in self._alive:
            request.add(series.key, STALE, ts_ms)
        if self._reported:
            for name in self._report_names():
                request.add(self._report_labels(name), STALE, ts_ms)
        self._alive, self._reported = [], False
        return request

    def adopt(self, other: Assembly) -> None:
        """Goes on where a loop over the same target with another configuration has ended."""
        self._reported = other._reported
        for before in other._alive:
            series = self._of_key(before.key, _NOTHING)
            series.epoch = self._epoch
            self._alive.append(series)

    def _read(
        self, samples: Iterable[ExposedSample], metadata: Mapping[str, Metadata], ts_ms: int
    ) -> _Scrape:
        """Raises ScrapeRefused, with the counts of what came before."""
        self._scrapes += 1
        scrape = _Scrape(WriteRequest(self._symbols), self._scrapes)
        limit = self._job.sample_limit
        exposed = self._exposed
        try:
            for sample in samples:
                scrape.scraped += 1
                labels = sample[0]
                entry = exposed.get(id(labels))
                if entry is not None and entry[0] is labels:
                    series = entry[1]
                else:
                    series = self._final(sample, metadata)
                if series is not None:
                    self._put(scrape, sample, series, ts_ms)
        except ScrapeRefused as refused:
            refused.counts = scrape.counts()
            raise
        if limit and scrape.kept > limit:
            text = f"sample limit exceeded: {scrape.kept} samples, {limit} allowed"
            raise ScrapeRefused(text, scrape.counts())
        return scrape

    def _put(self, scrape: _Scrape, sample: ExposedSample, series: _Series, ts_ms: int) -> None:
        own = sample[2] if self._job.honor_timestamps else None
        at_ms = ts_ms if own is None else own
        scrape.kept += 1
        limit = self._job.sample_limit
        if not limit or scrape.kept <= limit:
            scrape.added += series.epoch < self._epoch
            series.epoch = self._epoch + 1
        if series.seen == scrape.number and series.at_ms == at_ms:  # the first one counts
            return
        series.seen = scrape.number
        if series.scrape != scrape.number and (own is None or self._job.track_timestamps_staleness):
            scrape.alive.append(series)
            series.scrape = scrape.number
        series.at_ms = at_ms
        value = sample[1]
        if isinstance(value, float) and not sample[3] and not sample[4]:
            scrape.request.add_written(series.written, value, at_ms)
            return
        scrape.request.add(
            series.key, value, at_ms, sample[3], exemplars=_exemplars(sample[4], at_ms),
        )  # fmt: skip

    def _final(self, sample: ExposedSample, metadata: Mapping[str, Metadata]) -> _Series | None:
        """The series that exposed labels become; None if it is dropped. Raises ScrapeRefused."""
        exposed = tuple(sample.labels)
        if exposed in self._finals:
            series = self._finals[exposed]
        else:
            labels = self._with_target(dict(exposed))
            changed = relabel(self._job.metric_relabel_configs, labels)
            series = None
            if changed is not None:
                self._require_valid(changed)
                key = tuple(sorted(changed.items()))
                series = self._of_key(key, metadata.get(sample.family, _NOTHING))
            self._finals[exposed] = series
        # The labels are kept too, so that no others have their id.
        self._exposed[id(sample.labels)] = sample.labels, series
        return series

    def _of_key(self, key: Key, metadata: Metadata) -> _Series:
        series = self._series.get(key)
        if series is None:
            series = _Series(key, self._symbols.written(key, metadata))
            self._series[key] = series
        return series

    def _with_target(self, labels: dict[str, str]) -> dict[str, str]:
        own = self._target.labels
        if self._job.honor_labels:
            return dict(own) | labels
        clashing = sorted((n for n in own if n in labels), key=lambda n: (len(n), n))
        found = labels | dict(own)
        for name in clashing:
            kept = f"exported_{name}"
            while kept in found:
                kept = f"exported_{kept}"
            found[kept] = labels[name]
        return found

    def _require_valid(self, labels: Mapping[str, str]) -> None:
        job = self._job
        metric = labels.get("__name__", "")
        if not metric:
            raise ScrapeRefused("missing metric name (__name__ label)")
        if job.is_legacy:
            for name in labels:
                text = metric.replace(":", "_") if name == "__name__" else name
                if not _LEGACY.issuperset(text) or text[:1].isdigit():
                    raise ScrapeRefused(f"invalid metric name or label names: {metric}")
        if job.label_limit and len(labels) > job.label_limit:
            text = f"{len(labels)} labels, {job.label_limit} allowed"
            raise ScrapeRefused(f"label_limit exceeded by {metric}: {text}")
        names, values = job.label_name_length_limit, job.label_value_length_limit
        if not names and not values:
            return
        for name, value in labels.items():
            if names and len(name.encode()) > names:
                raise ScrapeRefused(f"label_name_length_limit exceeded by {metric}: {name[:60]}")
            if values and len(value.encode()) > values:
                raise ScrapeRefused(f"label_value_length_limit exceeded by {metric}: {name[:60]}")

    def _report(self, request: WriteRequest, report: Report, ts_ms: int) -> None:
        values = {
            "up": float(report.is_up),
            "scrape_duration_seconds": report.duration_s,
            "scrape_samples_scraped": float(report.counts.scraped),
            "scrape_samples_post_metric_relabeling": float(report.counts.kept),
            "scrape_series_added": float(report.counts.added),
            "scrape_timeout_seconds": self._target.timeout_ms / 1000,
            "scrape_sample_limit": float(self._job.sample_limit),
            "scrape_body_size_bytes": float(report.body_bytes),
        }
        self._reported = True
        for name in self._report_names():
            request.add(self._report_labels(name), values[name], ts_ms, metadata=_GAUGE)

    def _report_names(self) -> Sequence[str]:
        return _REPORTED + _REPORTED_BESIDES if self._job.extra_scrape_metrics else _REPORTED

    def _report_labels(self, name: str) -> Key:
        return tuple(sorted({**self._target.labels, "__name__": name}.items()))

    def _forget(self, exposed: int) -> None:
        """Keeps what is remembered in proportion to what is exposed."""
        most = max(_REMEMBERED * exposed, _REMEMBERED_AT_LEAST)
        if len(self._series) > most or len(self._finals) > most:
            self._symbols = Symbols()
            self._series = {series.key: series for series in self._alive}
            for series in self._alive:
                series.written = self._symbols.written(series.key)
            self._forget_exposed()
        if len(self._exposed) > most or sum(map(len, self.known.values())) > most:
            self._exposed.clear()
            self.known.clear()

    def _forget_exposed(self) -> None:
        self._exposed.clear()
        self._finals.clear()


_GAUGE = Metadata("gauge")
_REPORTED = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
_REPORTED_BESIDES = ("scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes")


def _exemplars(found: Iterable[ExposedExemplar], ts_ms: int) -> list[Exemplar]:
    return [Exemplar(dict(e.labels), e.value, ts_ms if e.ts_ms is None else e.ts_ms) for e in found]
