"""A decoder of remote write as tests want it: what it takes, as plain values."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np

from varve.gateway.decoded import Bounds, Decoded
from varve.gateway.first_sight import (
    Input,
    Targets,
    decode_exemplar,
    label_pairs,
    series_metadata,
)
from varve.gateway.messages import SampleColumns
from varve.gateway.negotiation import Version
from varve.gateway.protobuf import fields
from varve.gateway.remote_write import RemoteWriteDecoder, rows_needed
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesTable
from varve.gateway.write_request import Message
from varve.ingest.limits import Limits
from varve.model.identity import SeriesDefinition

NOW_MS = 1_795_740_000_000
ANY_TIME = Bounds(-(1 << 62), 1 << 62)

Row = tuple[tuple[tuple[str, str], ...], int, int]
"""Labels with `__name__`, time, and the bits of the value."""


@dataclass
class Seconds:
    """A clock of whole seconds."""

    at: int = 1

    def __call__(self) -> int:
        return self.at


class Decoding:
    """A decoder, and the definitions it has given so far."""

    def __init__(
        self,
        targets: Targets | None = None,
        *,
        limits: Limits | None = None,
        most: int = 1 << 20,
        failover_ms: int = 30_000,
    ) -> None:
        self.seconds = Seconds()
        self.decoder = RemoteWriteDecoder(
            SeriesTable(self.seconds, most),
            targets or Targets(4),
            Replicas(failover_ms),
            lambda: limits or Limits(),
        )
        self.definitions: dict[int, SeriesDefinition] = {}
        self.columns = SampleColumns.empty(0)

    def decode(
        self,
        body: bytes,
        version: Version = Version.V1,
        bounds: Bounds = ANY_TIME,
        source: Input | None = None,
        **more: Any,
    ) -> Decoded:
        content = np.frombuffer(body, np.uint8)
        self.columns = SampleColumns.empty(rows_needed(len(body)))
        found = self.decoder.decode(
            content, version, source or Input(), bounds, self.columns, **more
        )
        self.definitions |= {d.series_id: d for _, d in found.definitions}
        return found

    def rows(self) -> list[Row]:
        """The samples of the last request, sorted; without zeros at starts."""
        c = self.columns
        return sorted(
            (labels_of(self.definitions[int(c.ids[n])]), int(c.ts[n]), bits(float(c.values[n])))
            for n in range(c.rows)
            if c.starts[n] >= 0
        )


def labels_of(definition: SeriesDefinition) -> tuple[tuple[str, str], ...]:
    return tuple(sorted([("__name__", definition.metric), *definition.tags]))


def bits(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def told(message: Message) -> list[tuple[Any, ...]]:
    """What a message of version 2.0 says, series by series: labels, samples and histograms as they
    are written, exemplars, metadata.
    """
    found = list(fields(message.content.tobytes()))
    symbols = [f.delimited() for f in found if f.number == 4]
    series = []
    for one in (f.delimited() for f in found if f.number == 5):
        parts = list(fields(one))
        series.append(
            (
                label_pairs(Version.V2, one, symbols),
                [f.raw for f in parts if f.number in (2, 3)],
                [
                    decode_exemplar(Version.V2, f.delimited(), symbols)
                    for f in parts
                    if f.number == 4
                ],
                series_metadata(one, symbols),
            )
        )
    return series
