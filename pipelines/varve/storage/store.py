"""Where the tables are: a root on local disk or S3, with one folder per table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pyarrow.fs as pafs
from deltalake.fs import DeltaStorageHandler


@dataclass(frozen=True)
class Store:
    """root: an absolute path or s3://bucket/prefix. options: storage options of delta-rs
    (AWS_REGION, AWS_ENDPOINT_URL, AWS_ACCESS_KEY_ID, ...). Cheap to pickle to a task."""

    root: str
    options: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def is_local(self) -> bool:
        return "://" not in self.root

    def uri(self, table: str) -> str:
        return f"{self.root.rstrip('/')}/{table}"

    def prepare(self, table: str) -> None:
        """Makes the table's folder where folders exist."""
        if self.is_local:
            Path(self.uri(table)).mkdir(parents=True, exist_ok=True)

    def filesystem(self, table: str) -> pafs.FileSystem:
        """File system whose paths are relative to the table's folder."""
        return _filesystem(self.uri(table), tuple(sorted(self.options.items())))


@cache
def _filesystem(uri: str, options: tuple[tuple[str, str], ...]) -> pafs.FileSystem:
    if "://" not in uri:
        return pafs.SubTreeFileSystem(uri, pafs.LocalFileSystem())
    return pafs.PyFileSystem(DeltaStorageHandler(uri, dict(options)))
