"""Encodes samples as Arrow IPC, 28 bytes each; labels are sent for series that are new only.

Source of the format: schemas/wire/samples.arrow.json.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa

from varve.client.messages import (
    MESSAGE_BYTES,
    MESSAGE_SAMPLES,
    Message,
    Sample,
    partition_of,
)
from varve.ingest import arrow_codec
from varve.model.identity import SeriesDefinition

REDEFINE_S = 600.0
"""Seconds after which definitions are sent again, should Kafka have dropped the messages that held
them before ingest read them."""

_SAMPLE_BYTES = 28
# More bytes than Arrow adds to the texts of a definition.
_DEFINITION_BYTES = 64


@dataclass
class _Draft:
    samples: list[Sample] = field(default_factory=list)
    new: dict[int, SeriesDefinition] = field(default_factory=dict)
    size: int = 0


class ArrowEncoder:
    """Makes messages of Arrow IPC.

    It sends the definition of a series until a message that holds it has reached the broker, and
    again every REDEFINE_S seconds. State: the series whose definitions the broker has.
    """

    def __init__(
        self, partitions: int, *, apart: bool = False, now_s: Callable[[], float] = time.monotonic
    ) -> None:
        """apart: definitions go into messages of their own, for the topic of definitions; else each
        goes behind the samples that need it.
        """
        self._partitions = partitions
        self._apart = apart
        self._now_s = now_s
        self._defined: dict[int, int] = {}
        """The check of each series whose definition the broker has, by series_id."""
        self._forget_at_s = now_s() + REDEFINE_S

    def messages(self, samples: Iterable[Sample]) -> Iterator[Message]:
        """Yields messages of the samples, in their order within each partition. Definitions in
        messages of their own go before the samples that need them.
        """
        if self._now_s() >= self._forget_at_s:
            self._defined = {}
            self._forget_at_s = self._now_s() + REDEFINE_S
        drafts: dict[int, _Draft] = {}
        defined = self._defined
        for sample in samples:
            series = sample[0]
            series_id = series.series_id
            partition = partition_of(series_id, self._partitions)
            draft = drafts.get(partition)
            if draft is None:
                draft = drafts[partition] = _Draft()
            if defined.get(series_id) != series.check and draft.new.get(series_id) != series:
                size = _size(series)
                if draft.samples and draft.size + size > MESSAGE_BYTES:
                    yield from self._finish(partition, draft)
                    draft = drafts[partition] = _Draft()
                draft.new[series_id] = series
                draft.size += size
            draft.samples.append(sample)
            draft.size += _SAMPLE_BYTES
            if len(draft.samples) == MESSAGE_SAMPLES:
                yield from self._finish(partition, drafts.pop(partition))
        for partition, draft in drafts.items():
            yield from self._finish(partition, draft)

    def delivered(self, message: Message) -> None:
        self._defined.update({series.series_id: series.check for series in message.defines})

    def _finish(self, partition: int, draft: _Draft) -> Iterator[Message]:
        series, stamps, values = zip(*draft.samples, strict=True)
        table = pa.Table.from_arrays(
            [
                pa.array([s.series_id for s in series], pa.int64()),
                pa.array([s.check for s in series], pa.int32()),
                pa.array(stamps, pa.int64()),
                pa.array(values, pa.float64()),
            ],
            schema=arrow_codec.wire_schema("samples"),
        )
        key = series[0].series_id.to_bytes(8, "big", signed=True)
        new = list(draft.new.values())
        if new and self._apart:
            yield Message(None, key, arrow_codec.write_definitions(new), 0, new)
            new = []
        yield Message(partition, key, arrow_codec.write(table, new), len(values), new)


def _size(series: SeriesDefinition) -> int:
    """An upper bound of a definition's bytes, as UTF-8 takes up to four bytes for a character."""
    texts = [
        series.metric,
        series.type,
        series.unit,
        series.help,
        *(t for p in series.tags for t in p),
    ]
    return _DEFINITION_BYTES + 4 * sum(map(len, texts))
