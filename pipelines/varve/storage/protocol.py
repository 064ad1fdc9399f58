"""Which of Delta's features Varve reads and writes. A table on which another program has switched
on others is left alone: a reader would take wrong rows from it, a writer would break it.

Source: Delta protocol, "Protocol Evolution" and "Requirements for Writers".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from varve.model.errors import NeedsOperator

PROTOCOL = {"minReaderVersion": 1, "minWriterVersion": 2}
"""The protocol of the tables that Varve creates: readers and writers of any Delta release can open
them."""

# A version that lists its features instead of standing for some.
_READER_WITH_FEATURES, _WRITER_WITH_FEATURES = 3, 7
# What the versions above ours stand for.
_OF_READER_VERSION = {2: ("columnMapping",)}
_OF_WRITER_VERSION = {
    3: ("checkConstraints",),
    4: ("changeDataFeed", "generatedColumns"),
    5: ("columnMapping",),
    6: ("identityColumns",),
}
# Features that every table of our version has, in force only where its metadata says so.
_OF_OURS = frozenset({"appendOnly", "invariants"})


def require_readable(where: str, protocol: Mapping[str, Any]) -> None:
    """Raises NeedsOperator if rows of a table with this protocol may not be what they seem. where:
    the table, for a person.
    """
    version = protocol["minReaderVersion"]
    foreign = {*_up_to(version, PROTOCOL["minReaderVersion"], _OF_READER_VERSION)}
    if version >= _READER_WITH_FEATURES:
        foreign = set(protocol.get("readerFeatures") or ())
    if foreign or version > _READER_WITH_FEATURES:
        raise _refusal(where, "read", foreign, protocol)


def require_writable(
    where: str, protocol: Mapping[str, Any], table_metadata: Mapping[str, Any]
) -> None:
    """Raises NeedsOperator if a commit of Varve's could break a rule of the table. where: the
    table, for a person.
    """
    version = protocol["minWriterVersion"]
    foreign = {*_up_to(version, PROTOCOL["minWriterVersion"], _OF_WRITER_VERSION)}
    if version >= _WRITER_WITH_FEATURES:
        foreign = set(protocol.get("writerFeatures") or ()) - _OF_OURS
    foreign |= set(_in_force(table_metadata))
    if foreign or version > _WRITER_WITH_FEATURES:
        raise _refusal(where, "write", foreign, protocol)


def _up_to(version: int, ours: int, features: Mapping[int, tuple[str, ...]]) -> list[str]:
    """Features that a protocol version has and ours has not."""
    return [name for at in range(ours + 1, version + 1) for name in features.get(at, ())]


def _in_force(table_metadata: Mapping[str, Any]) -> list[str]:
    """Features that the metadata of a table of our version switches on."""
    found = []
    if (table_metadata.get("configuration") or {}).get("delta.appendOnly", "").lower() == "true":
        found.append("appendOnly")
    # A key of a column's metadata, in JSON.
    if '"delta.invariants"' in table_metadata["schemaString"]:
        found.append("invariants")
    if table_metadata.get("partitionColumns"):
        found.append("partitionColumns")
    return found


def _refusal(
    where: str, act: str, features: set[str], protocol: Mapping[str, Any]
) -> NeedsOperator:
    named = ", ".join(sorted(features)) or f"protocol {dict(protocol)}"
    return NeedsOperator(
        f"{where}: another program has switched on what Varve does not {act}: {named}. Nothing was"
        " written. Drop it with that program (ALTER TABLE ... DROP FEATURE, or unset the property),"
        " or restore the table from a backup"
    )
