"""What a task did, as it is told to the driver."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec

from varve.ingest.series_id_index import SeriesKey
from varve.model.identity import SeriesDefinition
from varve.model.metadata import Metadata
from varve.storage.files import NewFile

# Series without a definition that a task names to the driver, who may know them from another task.
NAMED_UNDEFINED = 10_000


@dataclass
class Outcome:
    """What one task did. received = stored + merged + the sum of rejected, all in samples."""

    messages: int = 0
    tombstones: int = 0
    """Messages without a value: they hold no sample and are not refused."""
    bytes: int = 0
    """Bytes of the messages' values."""
    expanded_bytes: int = 0
    """The same once they are expanded, without those that are refused whole."""
    received: int = 0
    stored: int = 0
    merged: int = 0
    rejected: dict[str, int] = field(default_factory=dict)
    """Samples refused, by reason."""
    files: list[NewFile] = field(default_factory=list)
    quarantine: list[NewFile] = field(default_factory=list)
    definitions: list[tuple[SeriesDefinition, int]] = field(default_factory=list)
    """Series the task did not know, each with the time of its earliest sample, ms."""
    definition_files: list[NewFile] = field(default_factory=list)
    """Files with the same, if they are many: varve.ingest.definition_files."""
    undefined: list[SeriesKey] = field(default_factory=list)
    """Series of which it has samples but no definition; the first NAMED_UNDEFINED."""
    metadata: dict[str, Metadata] = field(default_factory=dict)
    """What messages say of metrics, by name, apart from their series."""
    partitions: list[tuple[str, int]] = field(default_factory=list)
    """Topic and number of the partitions it read."""

    @property
    def new_series(self) -> int:
        """Series the task did not know."""
        return len(self.definitions) + sum(file.rows for file in self.definition_files)

    def to_json(self) -> str:
        """Encodes fast: a storm brings hundreds of thousands of definitions."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        return msgspec.json.decode(text, type=cls)
