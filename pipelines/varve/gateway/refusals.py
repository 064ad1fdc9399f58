"""Why something that was sent is not taken, and the status that says so."""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from varve.model.errors import VarveError

_SHOWN = 5


class Refusal(enum.StrEnum):
    """Reasons, as the metric of refused samples has them."""

    INVALID_LABELS = "invalid_labels"
    """No metric name, a name that is empty or comes twice, or text that is no UTF-8."""
    LABEL_LIMIT = "label_limit"
    """A new series has too many labels, or too long ones: conf/limits.toml."""
    TOO_FAR_IN_FUTURE = "too_far_in_future"
    """Ahead of the clock by more than ingest.max_future_s."""
    TOO_OLD = "too_old"
    """Older than what raw retention lets ingest store."""
    NO_SAMPLES = "no_samples"
    """A series of version 2.0 without samples or histograms."""
    INVALID_HISTOGRAM = "invalid_histogram"
    INVALID_EXEMPLAR = "invalid_exemplar"
    TEMPORALITY = "temporality"
    """Points of OTLP that are neither cumulative nor deltas, or deltas where those are off or their
    totals have no room."""
    OLD_DELTA = "old_delta"
    """A delta of OTLP that is older than its series' last one: if it was sent before, it is in the
    total already."""
    NOT_STORED = "not_stored"
    """A native histogram or an exemplar, and there is no topic for them."""
    MALFORMED = "malformed"
    """An object of JSON or a line of Influx that is none."""
    REPLICA = "replica"
    """Sent by a replica that is not its cluster's leader: no error, another one sends the same."""
    QUOTA = "quota"
    """The sender's samples a second are used up."""
    NEW_SERIES_QUOTA = "new_series_quota"
    """The sender's new series a second are used up."""
    OVERLOAD = "overload"
    """Neither Kafka nor the spool could take it."""


class Refused(VarveError):
    """A request is refused as a whole."""

    def __init__(self, status: int, text: str, retry_after_s: float = 0.0) -> None:
        super().__init__(text)
        self.status = status
        self.retry_after_s = retry_after_s


class Malformed(Refused):
    """The body is not what its headers say."""

    def __init__(self, text: str) -> None:
        super().__init__(400, text)


@dataclass
class Refusals:
    """What of a request is refused: how many samples, histograms and exemplars by reason, and what
    the first ones were.
    """

    samples: dict[Refusal, int] = field(default_factory=dict)
    others: dict[Refusal, int] = field(default_factory=dict)
    """Histograms and exemplars."""
    offenders: list[str] = field(default_factory=list)
    count: int = 0

    def add(self, why: Refusal, text: str, samples: int = 0, others: int = 0) -> None:
        """text: what is wrong, and with which series; for the sender to read."""
        if samples:
            self.samples[why] = self.samples.get(why, 0) + samples
        if others:
            self.others[why] = self.others.get(why, 0) + others
        self.count += 1
        if len(self.offenders) < _SHOWN:
            self.offenders.append(text)

    def merge(self, earlier: Refusals) -> None:
        """Counts what was refused before as well, and names it first."""
        for mine, theirs in ((self.samples, earlier.samples), (self.others, earlier.others)):
            for why, count in theirs.items():
                mine[why] = mine.get(why, 0) + count
        self.count += earlier.count
        self.offenders = [*earlier.offenders, *self.offenders][:_SHOWN]

    def text(self) -> str:
        """The first offenders, and how many there are."""
        more = self.count - len(self.offenders)
        return "; ".join(self.offenders) + (f"; and {more} more" if more > 0 else "")
