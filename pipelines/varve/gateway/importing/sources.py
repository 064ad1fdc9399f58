"""Files of samples in parts: OpenMetrics with times, and Parquet. The parts of a file are the same
each time that it is read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from varve.gateway.exposition.open_metrics import parse_open_metrics
from varve.gateway.exposition.samples import InvalidExposition
from varve.gateway.first_sight import Exemplar
from varve.gateway.write_request import STALE, WriteRequest
from varve.model.errors import BadRequest
from varve.model.metadata import NOTHING_KNOWN, Metadata
from varve.promql.histograms.native_histogram import FloatHistogram

_CHUNK_BYTES = 2 * 2**20
_ROWS = 20_000
_EOF = b"# EOF"
_META = re.compile(rb"# (?:HELP|TYPE|UNIT) ")
_FORMATS = ".om, .txt, .openmetrics (OpenMetrics) or .parquet"


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a file or block. number: its place among the parts, from 0. content: makes the
    request of remote write, expanded. done: bytes, rows or series up to its end, of `total`.
    """

    number: int
    content: Callable[[], bytes]
    samples: int
    done: int
    total: int


class Row(NamedTuple):
    """A sample of a file. labels: sorted by name, `__name__` among them. start_ms: 0 if unknown."""

    labels: Sequence[tuple[str, str]]
    ts_ms: int
    value: float | FloatHistogram
    start_ms: int
    metadata: Metadata
    exemplars: Sequence[Exemplar] = ()


class OldRows(Protocol):
    """What takes floats up to a time instead of a gateway."""

    @property
    def until_ms(self) -> int: ...

    def add(self, labels: Sequence[tuple[str, str]], ts_ms: int, value: float) -> None: ...


def parts_of(file: Path, old: OldRows | None = None) -> Iterator[Part]:
    """The parts of a file, by its suffix, without the samples that `old` takes. Raises BadRequest
    where the file is not what its suffix says, naming the place; OSError.
    """
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        return _parquet(file, old)
    if suffix in (".om", ".txt", ".openmetrics", ".prom"):
        return _open_metrics(file, old)
    raise BadRequest(f"{file}: a file to import ends with {_FORMATS}")


def _part(number: int, rows: Iterable[Row], done: int, total: int, old: OldRows | None) -> Part:
    request = WriteRequest()
    for row in rows:
        value = row.value
        if old is not None and row.ts_ms <= old.until_ms and isinstance(value, float):
            old.add(row.labels, row.ts_ms, value)
            continue
        request.add(
            row.labels, value, row.ts_ms, row.start_ms,
            exemplars=row.exemplars, metadata=row.metadata,
        )  # fmt: skip

    def content() -> bytes:
        return request.message().content.tobytes()

    return Part(number, content, len(request), done, total)


def _open_metrics(file: Path, old: OldRows | None) -> Iterator[Part]:
    total = file.stat().st_size
    number = done = lines = 0
    meta: list[bytes] = []
    ended = False
    with file.open("rb") as opened:
        while chunk := opened.readlines(_CHUNK_BYTES):
            if ended:
                raise BadRequest(f"{file}: there is something behind # EOF")
            first_line = lines + 1
            lines += len(chunk)
            done += sum(map(len, chunk))
            ended = chunk[-1].rstrip(b"\n") == _EOF
            body = b"".join(meta + (chunk[:-1] if ended else chunk))
            if body and not body.endswith(b"\n"):
                raise BadRequest(f"{file}: the file does not end with # EOF")
            rows = _rows_of_text(body + _EOF + b"\n", f"{file}, from line {first_line} on")
            yield _part(number, rows, done, total, old)
            number += 1
            meta = _last_meta(meta, chunk)
    if not ended:
        raise BadRequest(f"{file}: the file does not end with # EOF")


def _last_meta(before: list[bytes], chunk: list[bytes]) -> list[bytes]:
    """The lines that say what the family is whose samples come next."""
    found = list(before)
    was_meta = False
    for line in chunk:
        is_meta = bool(_META.match(line))
        if is_meta and not was_meta:
            found = []
        if is_meta:
            found.append(line)
        was_meta = is_meta
    return found


def _rows_of_text(body: bytes, where: str) -> Iterator[Row]:
    try:
        found = parse_open_metrics(body)
    except InvalidExposition as bad:
        raise BadRequest(f"{where}: {bad}") from bad
    for sample in found.samples:
        if sample.ts_ms is None:
            raise BadRequest(
                f"{where}: {dict(sample.labels)['__name__']} has a sample without time"
            )
        exemplars = [
            Exemplar(dict(e.labels), e.value, sample.ts_ms if e.ts_ms is None else e.ts_ms)
            for e in sample.exemplars
        ]
        said = found.metadata.get(sample.family, NOTHING_KNOWN)
        yield Row(sample.labels, sample.ts_ms, sample.value, sample.start_ms, said, exemplars)


def _parquet(file: Path, old: OldRows | None) -> Iterator[Part]:
    """Columns metric, ts and value, and perhaps tags (a map), type, unit, help. ts: a timestamp, or
    ms since the epoch. A value that is null ends its series.
    """
    try:
        opened = pq.ParquetFile(file)
    except pa.ArrowException as err:
        raise BadRequest(f"{file} is no Parquet file: {err}") from err
    missing = {"metric", "ts", "value"} - set(opened.schema_arrow.names)
    if missing:
        raise BadRequest(f"{file} has no column {min(missing)}: metric, ts, value, perhaps tags")
    total, done = opened.metadata.num_rows, 0
    known = ("metric", "ts", "value", "tags", "type", "unit", "help")
    columns = [name for name in known if name in opened.schema_arrow.names]
    for number, batch in enumerate(opened.iter_batches(_ROWS, columns=columns)):
        done += batch.num_rows
        yield _part(number, map(_row, _rows(file, batch)), done, total, old)


def _row(row: dict[str, Any]) -> Row:
    tags = {name: value for name, value in row.get("tags") or () if value}
    labels = sorted({**tags, "__name__": row["metric"]}.items())
    value = STALE if row["value"] is None else float(row["value"])
    kind, unit, text = (row.get(name) or "" for name in ("type", "unit", "help"))
    return Row(labels, row["ts"], value, 0, Metadata(kind or "unknown", unit, text))


def _rows(file: Path, batch: pa.RecordBatch) -> list[dict[str, Any]]:
    ts = batch.column("ts")
    if pa.types.is_timestamp(ts.type):
        ts = pc.cast(ts, pa.timestamp("ms"), safe=False).cast(pa.int64())
    if not pa.types.is_integer(ts.type) or not pa.types.is_floating(batch.column("value").type):
        raise BadRequest(f"{file}: ts is a timestamp or ms as whole numbers, value a float")
    table = batch.set_column(batch.schema.get_field_index("ts"), "ts", ts)
    rows: list[dict[str, Any]] = table.to_pylist()
    if any(not row["metric"] or row["ts"] is None for row in rows):
        raise BadRequest(f"{file}: a row has no metric or no ts")
    return rows
