"""What a request holds, once it is decoded."""

from __future__ import annotations

from dataclasses import dataclass, field

from varve.gateway.first_sight import Exemplar
from varve.gateway.histograms import HistogramSample
from varve.gateway.negotiation import Version
from varve.gateway.refusals import Refusals
from varve.gateway.series_table import SeriesKey
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata


@dataclass(frozen=True, slots=True)
class Bounds:
    """Which samples are taken, by their time in ms. lookback_ms: how long before a series' first
    sample its start may be to become a sample.
    """

    oldest_ms: int
    newest_ms: int
    lookback_ms: int = 300_000


@dataclass
class Decoded:
    """What a request holds. Its samples are rows of the columns it was decoded into."""

    version: Version
    samples: int = 0
    """Taken, without zeros at starts."""
    derived: int = 0
    """Zeros at starts, which are rows too."""
    critical: int = 0
    """Rows that go to the critical topic."""
    definitions: list[tuple[int, SeriesDefinition]] = field(default_factory=list)
    """Definitions to be sent, each with its target."""
    defined: list[SeriesKey] = field(default_factory=list)
    """The series that are known from now on, to be undefined if the request is not sent."""
    histograms: list[tuple[SeriesDefinition, HistogramSample]] = field(default_factory=list)
    exemplars: list[tuple[SeriesDefinition, Exemplar]] = field(default_factory=list)
    metadata: dict[str, Metadata] = field(default_factory=dict)
    refusals: Refusals = field(default_factory=Refusals)
    of_replica: int = 0
    """Samples that another replica sends as well."""

    def received(self) -> int:
        """Samples the request had."""
        return self.samples + self.of_replica + sum(self.refusals.samples.values())

    def received_others(self) -> int:
        """Native histograms and exemplars it had."""
        return len(self.histograms) + len(self.exemplars) + sum(self.refusals.others.values())
