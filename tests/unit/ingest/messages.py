"""Messages as producers write them."""

from __future__ import annotations

import json

import pyarrow as pa

from varve.ingest import arrow_codec
from varve.kafka.message import Headers
from varve.model.identity import SeriesDefinition

NOW_MS = 1_800_000_000_000


def encoded(encoding: str | None) -> Headers:
    """The headers of a message that is compressed so."""
    return () if encoding is None else (("Content-Encoding", encoding.encode()),)


def record(ts=NOW_MS, value=1.0, metric="requests", **tags) -> dict:
    return {"metric": metric, "value": value, "timestamp": ts, "tags": tags}


def as_json(*records: dict) -> bytes:
    return json.dumps(records[0] if len(records) == 1 else records).encode()


def as_arrow(rows: list[tuple[SeriesDefinition, int, float | None]], *, defined=True) -> bytes:
    """rows: series, ts, value."""
    table = pa.Table.from_arrays(
        [
            pa.array([d.series_id for d, _, _ in rows], pa.int64()),
            pa.array([d.check for d, _, _ in rows], pa.int32()),
            pa.array([ts for _, ts, _ in rows], pa.int64()),
            pa.array([value for _, _, value in rows], pa.float64()),
        ],
        schema=arrow_codec.wire_schema("samples"),
    )
    return arrow_codec.write(table, dict.fromkeys(d for d, _, _ in rows) if defined else ())
