"""Whether samples and series may be stored: by time, by identity and by limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from varve.ingest.age_limits import AgeLimits, Ids
from varve.ingest.definition_columns import BroughtDefinitions, Checks
from varve.ingest.held_samples import HeldSamples
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN
from varve.ingest.new_series import NewSeries
from varve.ingest.outcome import NAMED_UNDEFINED
from varve.ingest.plan import TaskPlan
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesIdIndex, SeriesKey
from varve.model import copies
from varve.model.exceeded import Exceeded
from varve.model.identity import SeriesDefinition
from varve.storage.matched_series import MatchedSeries

Verdicts = npt.NDArray[np.uint16]
"""STORED, or the number of a refusal: Judge.refusal."""

STORED = 0
# Metrics that a task names with what it refuses for a limit, each in rows of its own; those beyond
# share rows, so that a storm of metrics is no storm of rows.
NAMED_METRICS = 20
_NEVER = np.iinfo(np.int64).max
_DETAILS = {
    Reason.TOO_OLD: "over {seconds:,.0f} s old, from where on {limit} refuses samples",
    Reason.TOO_FAR_IN_FUTURE: "over {seconds:,.0f} s ahead, which is all that {limit} allows: check"
    " the producer's clock",
    Reason.ID_COLLISION: "another series has this id: change a label to tell them apart",
    Reason.UNKNOWN_SERIES: "no definition of the series has come",
    Reason.LABEL_LIMIT: "new series beyond {limit} = {allowed} of limits.toml",
    Reason.CARDINALITY_LIMIT: "new series beyond {limit} = {allowed} of limits.toml",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why samples or definitions are refused. exceeded: the limit, without what was found. metric:
    whose limit it is, if that is named.
    """

    reason: Reason
    exceeded: Exceeded | None = None
    metric: str | None = None

    @property
    def detail(self) -> str:
        """What it means, for a person."""
        exceeded = self.exceeded
        if exceeded is None:
            return _DETAILS[self.reason]
        return _DETAILS[self.reason].format(
            limit=exceeded.limit, allowed=exceeded.allowed, seconds=exceeded.allowed / 1000
        )


class Judge:
    """Judges the samples and definitions of one task, and keeps what the driver must hear of."""

    def __init__(self, plan: TaskPlan, index: SeriesIdIndex, ids: MatchedSeries) -> None:
        """index: the known series, at plan.series_version or later. ids: those of matchers."""
        self.brought = BroughtDefinitions()
        """Definitions that came with the task's messages."""
        self.new = NewSeries(self.brought)
        """Series to register, each with the time of its earliest sample, ms."""
        self.undefined: dict[SeriesKey, None] = {}
        """Series that have samples but no definition, the first NAMED_UNDEFINED."""
        self._plan, self._index, self._ids = plan, index, ids
        self._new_of_metric: Counter[str] = Counter()
        self._numbers: dict[Refusal, int] = {}
        self._refusals: list[Refusal] = []
        self._named: set[str] = set()
        # A storm of new series asks for the same again and again.
        self._beyond: dict[str, Refusal] = {}
        self._ages = AgeLimits(plan.limits, plan.now_ms, plan.oldest_ms, plan.newest_ms)

    def refusal(self, verdict: int) -> Refusal:
        """What a verdict other than STORED stands for."""
        return self._refusals[verdict - 1]

    def samples(self, held: HeldSamples, groups: copies.Groups) -> Verdicts | None:
        """The verdict on each sample; None if all are to be stored. groups: of held.columns.

        Records series this task has not seen: in `new` each that has a definition and at least
        one sample in time, in `undefined` those without a definition.
        """
        samples = held.columns
        if not len(samples):
            return None
        oldest, newest = self._time_bounds(held, groups)
        too_old, too_new = samples.ts < oldest, samples.ts > newest
        in_time = ~(too_old | too_new)
        of_series = self._series(held, groups, in_time)
        if in_time.all() and not of_series.any():
            return None
        verdicts = of_series[groups.codes]
        for bound, places in _by_bound(too_old, oldest):
            limit = self._ages.oldest_limit(bound)
            verdicts[places] = self._number(Refusal(Reason.TOO_OLD, limit))
        for bound, places in _by_bound(too_new, newest):
            limit = self._ages.newest_limit(bound)
            verdicts[places] = self._number(Refusal(Reason.TOO_FAR_IN_FUTURE, limit))
        return verdicts

    def definitions(
        self, defined: Mapping[SeriesKey, SeriesDefinition], at_ms: int
    ) -> dict[Refusal, list[SeriesDefinition]]:
        """Judges series that are defined ahead of their samples, as of at_ms. Records the new ones
        and returns the refused ones by why.
        """
        self._count_one_by_one()
        ids, checks = np.array(list(defined), np.int64).T
        status = self._index.status(ids, checks.astype(np.int32))
        refused: dict[Refusal, list[SeriesDefinition]] = {}
        for (key, definition), known in zip(defined.items(), status.tolist(), strict=True):
            if known == KNOWN:
                continue
            collision = Refusal(Reason.ID_COLLISION)
            refusal = self._refusal(key, definition) if known == UNKNOWN else collision
            if refusal is None:
                self.new.by_key.setdefault(key, (definition, at_ms))
            else:
                refused.setdefault(refusal, []).append(definition)
        return refused

    def _time_bounds(self, held: HeldSamples, groups: copies.Groups) -> tuple[int | Ids, int | Ids]:
        """Oldest and newest time allowed of each sample, or of all."""

        def definition_of(code: int) -> SeriesDefinition | None:
            return held.definition(int(groups.first[code]), self.brought)

        version = self._plan.series_version
        bounds = self._ages.by_series(
            held.columns.series_ids[groups.first],
            lambda matcher: self._ids.of(matcher, version),
            definition_of,
        )
        if bounds is None:
            return self._ages.default
        return bounds[0][groups.codes], bounds[1][groups.codes]

    def _series(
        self, held: HeldSamples, groups: copies.Groups, in_time: npt.NDArray[np.bool_]
    ) -> Verdicts:
        """The verdict on each series of `groups`, by what is known of it."""
        samples = held.columns
        ids, checks = samples.series_ids[groups.first], samples.checks[groups.first]
        status = self._index.status(ids, checks)
        verdicts = np.zeros(len(ids), np.uint16)
        if (contested := status == CONTESTED).any():
            verdicts[contested] = self._number(Refusal(Reason.ID_COLLISION))
        unknown = np.flatnonzero(status == UNKNOWN)
        if not len(unknown):
            return verdicts
        earliest = np.full(len(ids), _NEVER)
        np.minimum.at(earliest, groups.codes[in_time], samples.ts[in_time])
        # The others' samples are all refused for their time.
        unknown = unknown[earliest[unknown] != _NEVER]
        if not len(unknown) or self._took_columns(ids[unknown], checks[unknown], earliest[unknown]):
            return verdicts
        for code in unknown.tolist():
            key = int(ids[code]), int(checks[code])
            definition = held.definition(int(groups.first[code]), self.brought)
            if definition is None:
                verdicts[code] = self._number(Refusal(Reason.UNKNOWN_SERIES))
                if len(self.undefined) < NAMED_UNDEFINED:
                    self.undefined[key] = None
            elif (refusal := self._refusal(key, definition)) is not None:
                verdicts[code] = self._number(refusal)
            else:
                self.brought.put(definition)
                first = self.new.by_key.get(key, (definition, _NEVER))[1]
                self.new.by_key[key] = definition, min(first, int(earliest[code]))
        return verdicts

    def _took_columns(self, ids: Ids, checks: Checks, earliest: Ids) -> bool:
        """Records new series, all at once, if each has a definition and none is near a limit. Else
        does nothing: then they have to be looked at one by one.
        """
        plan = self._plan
        may = self.new.takes_columns and not (plan.refused or plan.registration_done)
        if not may or plan.full.all or (places := self.brought.places(ids, checks)) is None:
            self._count_one_by_one()
            return False
        whole = self.brought.whole
        codes = whole.codes[places]
        most = np.zeros((len(whole.metrics), 3), np.int64)
        np.maximum.at(most, codes, whole.sizes[places])
        counts = np.bincount(codes, minlength=len(whole.metrics))
        named = Counter(dict(zip(whole.metrics, counts.tolist(), strict=True)))
        for metric, number, (labels, names, values) in zip(
            whole.metrics, counts.tolist(), most.tolist(), strict=True
        ):
            limits = plan.limits.of(metric)
            if number and (
                metric in plan.full.metrics
                or self._new_of_metric[metric] + number > min(limits.series, plan.limits.series)
                or labels > limits.labels
                or names > limits.name_bytes
                or values > limits.value_bytes
            ):
                self._count_one_by_one()
                return False
        self._new_of_metric += named
        self.new.add(places, earliest)
        return True

    def _count_one_by_one(self) -> None:
        """Makes objects of the new series that were columns, and counts each of them once."""
        if self.new.takes_columns:
            self._new_of_metric = Counter(d.metric for d, _ in self.new.by_key.values())

    def _refusal(self, key: SeriesKey, definition: SeriesDefinition) -> Refusal | None:
        """Why a new series must not be registered; None if it may."""
        plan, metric = self._plan, definition.metric
        if key in plan.refused:
            reason = plan.refused[key]
            limited = reason == Reason.CARDINALITY_LIMIT
            return self._beyond_number(metric) if limited else Refusal(reason)
        limits = plan.limits.of(metric)
        exceeded = limits.exceeded_by(definition)
        if exceeded is not None:
            name = plan.limits.name(metric, exceeded.limit)
            limit = Exceeded(name, exceeded.allowed)
            return Refusal(Reason.LABEL_LIMIT, limit, self._name(metric))
        if plan.registration_done:
            # It was not named to the registry, and nobody will register it now.
            return self._beyond_number(metric)
        if key in self.new.by_key:
            return None
        # The registry decides; what it would surely refuse is not even named to it.
        named = self._new_of_metric[metric]
        is_full = plan.full.all or metric in plan.full.metrics
        if is_full or named >= min(limits.series, plan.limits.series):
            return self._beyond_number(metric)
        self._new_of_metric[metric] += 1
        return None

    def _beyond_number(self, metric: str) -> Refusal:
        """The refusal of a series beyond the number of its metric, or of all together."""
        if (found := self._beyond.get(metric)) is not None:
            return found
        limits, full = self._plan.limits, self._plan.full
        of_metric, total = limits.of(metric).series, limits.series
        # Where neither is known to be full, the lesser number is the one that more series meet.
        if metric not in full.metrics and (full.all or total < of_metric):
            exceeded = Exceeded("total.series", total)
        else:
            exceeded = Exceeded(limits.name(metric, "series"), of_metric)
        refusal = Refusal(Reason.CARDINALITY_LIMIT, exceeded, self._name(metric))
        self._beyond[metric] = refusal
        return refusal

    def _name(self, metric: str) -> str | None:
        """The metric, unless there are too many that are named already."""
        if metric not in self._named and len(self._named) >= NAMED_METRICS:
            return None
        self._named.add(metric)
        return metric

    def _number(self, refusal: Refusal) -> int:
        """The verdict that stands for a refusal."""
        if refusal not in self._numbers:
            self._refusals.append(refusal)
            self._numbers[refusal] = STORED + len(self._refusals)
        return self._numbers[refusal]


def _by_bound(
    beyond: npt.NDArray[np.bool_], bounds: int | Ids
) -> Iterator[tuple[int, npt.NDArray[np.intp]]]:
    """The places of samples beyond their bounds, by bound."""
    places = np.flatnonzero(beyond)
    of_places = np.broadcast_to(bounds, beyond.shape)[places]
    for bound in np.unique(of_places).tolist():
        yield bound, places[of_places == bound]
