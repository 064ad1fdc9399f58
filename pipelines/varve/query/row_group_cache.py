"""Row groups of sample files, decoded on demand and kept within a bound of bytes.

Files never change, so a decoded row group stays true until it is evicted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from varve.promql.kernels.types import I64
from varve.query.sample_columns import COLUMNS, SampleColumns, from_arrow
from varve.storage.bounds import Bounds
from varve.storage.zone_map import ZoneMap

# Memory that a footer takes, roughly, beside what it holds of each row group.
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


class RowGroupCache:
    """Decoded row groups and footers by path, the least recently used evicted first.

    Thread-safe. Two threads that miss the same entry both read it.
    """

    def __init__(self, filesystem: pafs.FileSystem, max_bytes: int, threads: int = 4) -> None:
        self._filesystem = filesystem
        self._max_bytes = max_bytes
        self._entries: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        """Value and bytes by (path, row group); row group -1 is the footer."""
        self._bytes = 0
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self.decoded = 0
        """Row groups and whole files that were read from storage so far."""

    @property
    def nbytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Ends the threads once they have finished the files under way."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def read(
        self, paths: list[str], series_ids: I64, start_ms: int, end_ms: int
    ) -> list[SampleColumns]:
        """Reads the row groups that can hold samples of the ids (ascending) in the range.

        Raises OSError if a file cannot be read or is damaged, FileNotFoundError if it is gone.
        """
        footers = self._pool.map(self.footer, paths)
        wanted = [
            (path, group)
            for path, footer in zip(paths, footers, strict=True)
            for group in footer.overlapping(series_ids, start_ms, end_ms)
        ]
        return list(self._pool.map(self._row_group, wanted))

    def read_files(self, paths: list[str]) -> list[SampleColumns]:
        """Reads all of each file and keeps nothing of it. OSError as `read`."""
        return list(self._pool.map(self._file, paths))

    def footer(self, path: str) -> Footer:
        key = (path, -1)
        held = self._get(key)
        if held is None:
            with self._open(path) as file:
                metadata = pq.read_metadata(file)
            held = Footer(metadata, ZoneMap.of_row_groups(metadata, "ts"))
            self._put(key, held, _FOOTER_BYTES + 32 * metadata.num_row_groups)
        return held

    def _row_group(self, key: tuple[str, int]) -> SampleColumns:
        held = self._get(key)
        if held is None:
            path, group = key
            metadata = self.footer(path).metadata
            with self._open(path) as file:
                parquet = pq.ParquetFile(file, metadata=metadata)
                held = from_arrow(parquet.read_row_group(group, list(COLUMNS), use_threads=False))
            self._count_decoded()
            self._put(key, held, held.nbytes)
        return held

    def _file(self, path: str) -> SampleColumns:
        with self._open(path) as file:
            rows: pa.Table = pq.ParquetFile(file).read(list(COLUMNS), use_threads=False)
        self._count_decoded()
        return from_arrow(rows)

    @contextmanager
    def _open(self, path: str) -> Iterator[pa.NativeFile]:
        """The file, while it is read. OSError also for one that is damaged."""
        try:
            with self._filesystem.open_input_file(path) as file:
                yield file
        except pa.ArrowException as err:
            raise OSError(f"{path}: {err}") from err

    def _count_decoded(self) -> None:
        with self._lock:
            self.decoded += 1

    def _get(self, key: tuple[str, int]) -> Any:
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def _put(self, key: tuple[str, int], value: Any, size: int) -> None:
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = (value, size)
            self._bytes += size
            while self._bytes > self._max_bytes and len(self._entries) > 1:
                _, (_, freed) = self._entries.popitem(last=False)
                self._bytes -= freed
