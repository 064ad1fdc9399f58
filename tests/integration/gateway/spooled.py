"""What is in the spool of a gateway's bulk topic."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from varve.gateway.spool import Spool
from varve.ingest import arrow_codec
from varve.model.clock import SystemClock
from varve.model.staleness import is_stale

Labels = tuple[tuple[str, str], ...]


def spooled_samples(
    home: Path, folder: str = "gateway-spool"
) -> list[tuple[Labels, int, float | None]]:
    """Labels with __name__, time and value of each sample, None for a stale marker. Empties it."""
    spool = Spool(
        home / folder / "bulk",
        max_bytes=1 << 40,
        max_age_ms=1 << 40,
        segment_bytes=1 << 20,
        clock=SystemClock(),
    )
    names: dict[int, Labels] = {}
    found: list[tuple[int, int, float | None]] = []
    while (segment := spool.oldest()) is not None:
        for message in spool.read(segment):
            block = arrow_codec.read(message.value)
            assert not block.rejects
            assert set((block.series_ids % 4).tolist()) <= {message.partition}
            for d in block.definitions:
                names[d.series_id] = tuple(sorted([("__name__", d.metric), *d.tags]))
            values = np.where(is_stale(block.values), None, block.values.astype(object))
            rows = zip(block.series_ids.tolist(), block.ts.tolist(), values.tolist(), strict=True)
            found += rows
        spool.discard(segment)
    return [(names[series_id], ts, value) for series_id, ts, value in found]
