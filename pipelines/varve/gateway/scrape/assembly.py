"""What becomes of a scrape: labels of the target, relabelling, limits, staleness markers, and the
samples that report it. Pure: times are arguments.

Source: Prometheus, scrape/scrape.go, scrapeLoop.append, mutateSampleLabels, report.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from varve.gateway import kernel_scrape
from varve.gateway.catalogue import Catalogue, Samples
from varve.gateway.exposition.known_lines import NO_TIME, ExposedColumns, KnownLines
from varve.gateway.exposition.samples import ExposedExemplar, ExposedSample
from varve.gateway.first_sight import Exemplar
from varve.gateway.kernel_scrape import ALIVE_IN, DROPPED, EPOCH, UNMAPPED
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.relabel import relabel
from varve.gateway.scrape.targets import Target
from varve.gateway.write_request import WriteRequest
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.model.staleness import STALE_BITS

Key = tuple[tuple[str, str], ...]
"""Sorted labels of a series."""

_LEGACY = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_")
# How much more than the last scrape had may be remembered before it is forgotten.
_REMEMBERED = 2
_REMEMBERED_AT_LEAST = 1_000
# Lines of comments that a sample may have, of those that are remembered.
_COMMENTS = 3


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


@dataclass
class _Scrape:
    """What was taken of a scrape. alive: series, in the order of their first samples."""

    samples: Samples
    odd: Sequence[tuple[int, int, ExposedSample]]
    """Series, time, and what has no place in the columns."""
    alive: np.ndarray
    counts: Counts


class Assembly:
    """The state of a target's scrapes: which series are alive, which lines became which."""

    def __init__(self, job: ScrapeConfig, target: Target) -> None:
        self.metadata: Mapping[str, Metadata] = {}
        """As the last scrape that went well has it."""
        self._job = job
        self._target = target
        self._known = KnownLines()
        self._alive = _NO_SERIES
        self._reported = False
        self._scrapes = self._epoch = 0
        self._exposed = 0
        """Samples of the last scrape that went well."""
        self._begin()

    def _begin(self) -> None:
        """Forgets all series and lines."""
        self._catalogue = Catalogue()
        self._keys: list[Key] = []
        self._said: list[Metadata] = []
        self._numbers: dict[Key, int] = {}
        self._state = np.zeros((4, _REMEMBERED_AT_LEAST), np.int64)
        self._reports: list[int] = []
        self._unsaid: set[int] = set()
        """Series whose metadata nobody has asked for yet."""
        self._forget_lines()

    def _forget_lines(self) -> None:
        self._known = KnownLines()
        self._series_of = np.full(_REMEMBERED_AT_LEAST, UNMAPPED, np.int32)

    @property
    def remembered(self) -> int:
        """How many series are, also of those that are gone."""
        return len(self._keys)

    def read(self, body: bytes, kind: str) -> ExposedColumns:
        """The samples of a body of a format, for `take`. Raises InvalidBody."""
        return self._known.read(body, kind)

    def take(
        self, found: ExposedColumns, ts_ms: int, duration_s: float, body_bytes: int
    ) -> tuple[WriteRequest, Report]:
        """The samples of a scrape, staleness markers of series that are gone, and its report.
        Raises ScrapeRefused; then `fail` is to be called.
        """
        scrape = self._read(found, ts_ms)
        self._epoch += 1
        gone = self._alive[self._state[ALIVE_IN, self._alive] != self._scrapes]
        report = Report(duration_s, True, scrape.counts, body_bytes)
        request = self._request(ts_ms, scrape.samples, gone, report)
        for series, at_ms, sample in scrape.odd:
            request.add(
                self._keys[series], sample.value, at_ms, sample.start_ms,
                exemplars=_exemplars(sample.exemplars, at_ms), metadata=self._said[series],
            )  # fmt: skip
        self._alive = scrape.alive
        self.metadata = found.metadata
        self._exposed = scrape.counts.scraped
        self._forget(self._exposed)
        return request, report

    def counts_before(self, found: ExposedColumns) -> Counts:
        """What a body counts for that was read up to something invalid."""
        first, unsaid = len(self._keys), self._unsaid.copy()
        try:
            return self._read(replace(found, metadata={}), 0).counts
        except ScrapeRefused as refused:
            return refused.counts
        finally:  # nothing was said of the new ones: the next scrape says it
            self._unsaid = unsaid.union(range(first, len(self._keys)))
            self._series_of[np.isin(self._series_of, list(self._unsaid))] = UNMAPPED

    def fail(
        self, ts_ms: int, duration_s: float, counts: Counts = Counts(), body_bytes: int = 0
    ) -> tuple[WriteRequest, Report]:
        """What a scrape that failed says: every series ends, the target is down. counts: of a body
        that came and was refused.
        """
        report = Report(duration_s, False, counts, body_bytes)
        gone, self._alive = self._alive, _NO_SERIES
        request = self._request(ts_ms, None, gone, report)
        self._forget(max(counts.scraped, self._exposed))
        return request, report

    def end(self, ts_ms: int) -> WriteRequest:
        """What the end of a target says: every series ends, also those that report it."""
        gone = self._alive
        if self._reported:
            gone = np.concatenate([gone, self._report_series()])
        self._alive, self._reported = _NO_SERIES, False
        return self._request(ts_ms, None, gone, None)

    def adopt(self, other: Assembly) -> None:
        """Goes on where a loop over the same target with another configuration has ended."""
        self._reported = other._reported
        alive = [self._of_key(other._keys[n], NOTHING_KNOWN) for n in other._alive.tolist()]
        self._alive = np.array(alive, np.int64)
        self._state[EPOCH, self._alive] = self._epoch

    def _request(
        self, ts_ms: int, samples: Samples | None, gone: np.ndarray, report: Report | None
    ) -> WriteRequest:
        """Samples, ends of series, and a report."""
        request = WriteRequest()
        parts = [] if samples is None else [samples]
        parts.append(_at(ts_ms, gone, np.full(len(gone), STALE_BITS, np.uint64)))
        if report is not None:
            self._reported = True
            series = self._report_series()
            parts.append(_at(ts_ms, series, self._report_values(report)[: len(series)]))
        joined = Samples(*(np.concatenate(column) for column in zip(*parts, strict=True)))
        if len(joined.series):
            request.add_known(self._catalogue, joined)
        return request

    def _read(self, found: ExposedColumns, ts_ms: int) -> _Scrape:
        """Raises ScrapeRefused, with the counts of what came before."""
        self._scrapes += 1
        refused = None
        rows = len(found)
        if len(self._known) > len(self._series_of):
            self._series_of = _longer(self._series_of, len(self._known), UNMAPPED)
        unmapped = np.flatnonzero(self._series_of[found.lines] == UNMAPPED)
        for row in unmapped.tolist():
            line = int(found.lines[row])
            if self._series_of[line] != UNMAPPED:
                continue
            try:
                self._series_of[line] = self._final(line, found.metadata)
            except ScrapeRefused as bad:
                refused, rows = bad, row
                break
        limit = self._job.sample_limit
        times = found.times
        if not self._job.honor_timestamps:
            times = np.full(len(times), NO_TIME, np.int64)
        taken, series, at_ms, alive = (np.empty(rows, np.int64) for _ in range(4))
        counted = np.empty(4, np.int64)
        kernel_scrape.take_samples(
            found.lines[:rows], times, self._series_of, self._state, self._scrapes, self._epoch,
            ts_ms, NO_TIME, limit, self._job.track_timestamps_staleness,
            taken, series, at_ms, alive, counted,
        )  # fmt: skip
        kept, added, count, living = counted.tolist()
        counts = Counts(rows + (refused is not None), kept, added)
        if refused is not None:
            raise ScrapeRefused(str(refused), counts)
        if limit and kept > limit:
            text = f"sample limit exceeded: {kept} samples, {limit} allowed"
            raise ScrapeRefused(text, counts)
        taken, series, at_ms = taken[:count], series[:count], at_ms[:count]
        odd = []
        if found.odd:
            is_odd = np.isin(taken, list(found.odd))
            odd = [
                (int(series[n]), int(at_ms[n]), found.sample(int(taken[n])))
                for n in np.flatnonzero(is_odd)
            ]
            taken, series, at_ms = taken[~is_odd], series[~is_odd], at_ms[~is_odd]
        samples = Samples(series, found.values[taken].view(np.uint64), at_ms, found.starts[taken])
        return _Scrape(samples, odd, alive[:living].copy(), counts)

    def _final(self, line: int, metadata: Mapping[str, Metadata]) -> int:
        """The series that a line becomes, or DROPPED. Raises ScrapeRefused."""
        labels = self._with_target(dict(self._known.labels[line]))
        changed = relabel(self._job.metric_relabel_configs, labels)
        if changed is None:
            return DROPPED
        self._require_valid(changed)
        said = metadata.get(self._known.families[line], NOTHING_KNOWN)
        return self._of_key(tuple(sorted(changed.items())), said)

    def _of_key(self, key: Key, metadata: Metadata) -> int:
        series = self._numbers.get(key)
        if series is None:
            series = self._numbers[key] = self._catalogue.add(key, metadata)
            self._keys.append(key)
            self._said.append(metadata)
            if series >= self._state.shape[1]:
                self._state = np.hstack([self._state, np.zeros_like(self._state)])
            self._state[:, series] = _NEVER
        elif series in self._unsaid:
            self._unsaid.discard(series)
            self._catalogue.describe(series, metadata)
            self._said[series] = metadata
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

    def _report_values(self, report: Report) -> np.ndarray:
        """The bits of the values of `_report_series`, and more."""
        counts = report.counts
        values = (
            float(report.is_up), report.duration_s, counts.scraped, counts.kept, counts.added,
            self._target.timeout_ms / 1000, self._job.sample_limit, report.body_bytes,
        )  # fmt: skip
        return np.array(values, np.float64).view(np.uint64)

    def _report_series(self) -> np.ndarray:
        """The series that report a scrape. They are none of those that bodies have."""
        if not self._reports:
            names = _REPORTED + _REPORTED_BESIDES if self._job.extra_scrape_metrics else _REPORTED
            for name in names:
                key = tuple(sorted({**self._target.labels, "__name__": name}.items()))
                self._reports.append(self._catalogue.add(key, _GAUGE))
                self._keys.append(key)
                self._said.append(_GAUGE)
        return np.array(self._reports, np.int64)

    def _forget(self, exposed: int) -> None:
        """Keeps what is remembered in proportion to what is exposed."""
        most = max(_REMEMBERED * exposed, _REMEMBERED_AT_LEAST)
        if len(self._keys) > most:
            keys, said, state = self._keys, self._said, self._state
            alive = self._alive.tolist()
            self._begin()
            self._alive = np.array([self._of_key(keys[n], said[n]) for n in alive], np.int64)
            self._state[:, self._alive] = state[:, alive]
        elif len(self._known) > most + _COMMENTS * exposed:
            self._forget_lines()


_GAUGE = Metadata("gauge")
_REPORTED = (
    "up",
    "scrape_duration_seconds",
    "scrape_samples_scraped",
    "scrape_samples_post_metric_relabeling",
    "scrape_series_added",
)
_REPORTED_BESIDES = ("scrape_timeout_seconds", "scrape_sample_limit", "scrape_body_size_bytes")


_NO_SERIES = np.empty(0, np.int64)
_NEVER = np.array([0, 0, 0, -1])


def _at(ts_ms: int, series: np.ndarray, values: np.ndarray) -> Samples:
    """Samples of one time."""
    times = np.full(len(series), ts_ms, np.int64)
    return Samples(series, values, times, np.zeros(len(series), np.int64))


def _longer(array: np.ndarray, rows: int, fill: int) -> np.ndarray:
    """The array with twice as many rows as are wanted."""
    return np.concatenate([array, np.full(2 * rows - len(array), fill, array.dtype)])


def _exemplars(found: Iterable[ExposedExemplar], ts_ms: int) -> list[Exemplar]:
    return [Exemplar(dict(e.labels), e.value, ts_ms if e.ts_ms is None else e.ts_ms) for e in found]
