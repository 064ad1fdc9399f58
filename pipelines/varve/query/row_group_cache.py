"""Row groups of sample files, decoded on demand and kept within a bound of bytes.

Files never change, so what was decoded once stays true until it is pushed out.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from varve.promql.kernels.types import I64
from varve.query.sample_columns import COLUMNS, Block, block_of
from varve.storage.bounds import Bounds
from varve.storage.zone_map import ZoneMap

# What a footer costs in memory, roughly, beside its row groups.
_FOOTER_BYTES = 2_048


@dataclass(frozen=True, slots=True)
class Footer:
    """A file's metadata and the zone map of its row groups."""

    metadata: pq.FileMetaData
    zones: ZoneMap

    def overlapping(self, series_ids: I64, start_ms: int, end_ms: int) -> list[int]:
        """Row groups that can hold samples of the ids (ascending) in (start_ms, end_ms]."""
        found = self.zones.overlapping(Bounds(start_ms, end_ms, series_ids))
        groups: list[int] = np.flatnonzero(found).tolist()
        return groups


class RowGroups:
    """Decoded row groups and footers by path, least recently used out first. Thread-safe."""

    def __init__(self, filesystem: pafs.FileSystem, max_bytes: int, threads: int = 4) -> None:
        self._filesystem = filesystem
        self._max_bytes = max_bytes
        self._held: OrderedDict[tuple[str, int], Any] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.decoded = 0
        """Row groups read from storage so far."""

    @property
    def nbytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Lets the threads go; files under way are finished."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def blocks(self, paths: list[str], series_ids: I64, start_ms: int, end_ms: int) -> list[Block]:
        """Row groups of the files that can hold the samples asked for; ids ascending.

        OSError if a file cannot be read, FileNotFoundError if it is gone.
        """
        footers = self._pool.map(self.footer, paths)
        wanted = [
            (path, group)
            for path, footer in zip(paths, footers, strict=True)
            for group in footer.overlapping(series_ids, start_ms, end_ms)
        ]
        return list(self._pool.map(self._row_group, wanted))

    def whole(self, paths: list[str]) -> list[Block]:
        """All of each file, not kept here. OSError as `blocks`."""
        return list(self._pool.map(self._file, paths))

    def footer(self, path: str) -> Footer:
        key = (path, -1)
        held = self._get(key)
        if held is None:
            with self._filesystem.open_input_file(path) as file:
                metadata = pq.read_metadata(file)
            held = Footer(metadata, ZoneMap.of_row_groups(metadata, "ts"))
            self._put(key, held, _FOOTER_BYTES + 32 * metadata.num_row_groups)
        return held

    def _row_group(self, wanted: tuple[str, int]) -> Block:
        held = self._get(wanted)
        if held is None:
            path, group = wanted
            metadata = self.footer(path).metadata
            with self._filesystem.open_input_file(path) as file:
                parquet = pq.ParquetFile(file, metadata=metadata)
                held = block_of(parquet.read_row_group(group, list(COLUMNS), use_threads=False))
            self._put(wanted, held, held.nbytes)
        return held

    def _file(self, path: str) -> Block:
        with self._filesystem.open_input_file(path) as file:
            rows: pa.Table = pq.ParquetFile(file).read(list(COLUMNS), use_threads=False)
        self.decoded += 1
        return block_of(rows)

    def _get(self, key: tuple[str, int]) -> Any:
        with self._lock:
            if key not in self._held:
                return None
            self._held.move_to_end(key)
            return self._held[key][0]

    def _put(self, key: tuple[str, int], value: Any, size: int) -> None:
        with self._lock:
            self.decoded += key[1] >= 0
            if key in self._held:
                return
            self._held[key] = (value, size)
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._held) > 1:
                _, (_, freed) = self._held.popitem(last=False)
                self._bytes -= freed
