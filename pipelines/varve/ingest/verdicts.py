"""Whether samples and series may be stored: by time, by identity and by limits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from varve.ingest.age_limits import AgeLimits, Ids
from varve.ingest.held_samples import HeldSamples
from varve.ingest.mapped_runs import CONTESTED, KNOWN, UNKNOWN
from varve.ingest.outcome import NAMED_UNDEFINED
from varve.ingest.plan import TaskPlan
from varve.ingest.reject_reasons import Reason
from varve.ingest.series_id_index import SeriesIdIndex, SeriesKey
from varve.model import copies
from varve.model.identity import SeriesDefinition
from varve.storage.matched_series import MatchedSeries

Verdicts = npt.NDArray[np.uint8]
"""STORED, or the number of a reason: `reason_of`."""

STORED = 0
_NUMBERS = {reason: n for n, reason in enumerate(Reason, STORED + 1)}
_REASONS = {n: reason for reason, n in _NUMBERS.items()}
_NEVER = np.iinfo(np.int64).max
_DETAILS = {
    Reason.TOO_OLD: "before {oldest_ms}, from where on samples expire before they surely are in the"
    " rollups, or older than limits.toml allows the metric",
    Reason.TOO_FAR_IN_FUTURE: "after {newest_ms}, or further ahead than limits.toml allows the"
    " metric: check the producer's clock",
    Reason.ID_COLLISION: "another series has this id: change a label to tell them apart",
    Reason.UNKNOWN_SERIES: "no definition of the series has come",
    Reason.LABEL_LIMIT: "new series with more or longer labels than limits.toml allows",
    Reason.CARDINALITY_LIMIT: "new series beyond the number that limits.toml allows",
}


def reason_of(verdict: int) -> Reason:
    return _REASONS[verdict]


class Judge:
    """Judges the samples and definitions of one task, and keeps what the driver must hear of."""

    def __init__(self, plan: TaskPlan, index: SeriesIdIndex, ids: MatchedSeries) -> None:
        """index: the known series, at plan.series_version or later. ids: those of matchers."""
        self.brought: dict[SeriesKey, SeriesDefinition] = {}
        """Definitions that came with the task's messages."""
        self.new: dict[SeriesKey, tuple[SeriesDefinition, int]] = {}
        """Series to register, each with the time of its earliest sample, ms."""
        self.undefined: dict[SeriesKey, None] = {}
        """Series that have samples but no definition, the first NAMED_UNDEFINED."""
        self._plan, self._index, self._ids = plan, index, ids
        self._new_of_metric: Counter[str] = Counter()
        self._ages = AgeLimits(plan.limits, plan.now_ms, plan.oldest_ms, plan.newest_ms)

    def detail(self, reason: Reason) -> str:
        """What a refusal for the reason means, for a person."""
        plan = self._plan
        return _DETAILS[reason].format(oldest_ms=plan.oldest_ms, newest_ms=plan.newest_ms)

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
        verdicts[too_old] = _NUMBERS[Reason.TOO_OLD]
        verdicts[too_new] = _NUMBERS[Reason.TOO_FAR_IN_FUTURE]
        return verdicts

    def definitions(
        self, defined: Mapping[SeriesKey, SeriesDefinition], at_ms: int
    ) -> dict[Reason, list[SeriesDefinition]]:
        """Judges series that are defined ahead of their samples, as of at_ms. Records the new ones
        and returns the refused ones by reason.
        """
        ids, checks = np.array(list(defined), np.int64).T
        status = self._index.status(ids, checks.astype(np.int32))
        refused: dict[Reason, list[SeriesDefinition]] = {}
        for (key, definition), known in zip(defined.items(), status.tolist(), strict=True):
            if known == KNOWN:
                continue
            reason = self._refusal(key, definition) if known == UNKNOWN else Reason.ID_COLLISION
            if reason is None:
                self.new.setdefault(key, (definition, at_ms))
            else:
                refused.setdefault(reason, []).append(definition)
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
        verdicts = np.zeros(len(ids), np.uint8)
        verdicts[status == CONTESTED] = _NUMBERS[Reason.ID_COLLISION]
        unknown = np.flatnonzero(status == UNKNOWN)
        if not len(unknown):
            return verdicts
        earliest = np.full(len(ids), _NEVER)
        np.minimum.at(earliest, groups.codes[in_time], samples.ts[in_time])
        for code in unknown.tolist():
            if earliest[code] == _NEVER:
                # All of its samples are refused for their time.
                continue
            key = int(ids[code]), int(checks[code])
            definition = held.definition(int(groups.first[code]), self.brought)
            if definition is None:
                verdicts[code] = _NUMBERS[Reason.UNKNOWN_SERIES]
                if len(self.undefined) < NAMED_UNDEFINED:
                    self.undefined[key] = None
            elif (refusal := self._refusal(key, definition)) is not None:
                verdicts[code] = _NUMBERS[refusal]
            else:
                self.brought[key] = definition
                first = self.new.get(key, (definition, _NEVER))[1]
                self.new[key] = definition, min(first, int(earliest[code]))
        return verdicts

    def _refusal(self, key: SeriesKey, definition: SeriesDefinition) -> Reason | None:
        """Why a new series must not be registered; None if it may."""
        plan = self._plan
        if key in plan.refused:
            return plan.refused[key]
        limits = plan.limits.of(definition.metric)
        if limits.exceeded_by(definition) is not None:
            return Reason.LABEL_LIMIT
        if plan.registration_done:
            # It was not named to the registry, and nobody will register it now.
            return Reason.CARDINALITY_LIMIT
        if key in self.new:
            return None
        # The registry decides; what it would surely refuse is not even named to it.
        named = self._new_of_metric[definition.metric]
        if definition.metric in plan.full or named >= min(limits.series, plan.limits.series):
            return Reason.CARDINALITY_LIMIT
        self._new_of_metric[definition.metric] += 1
        return None
