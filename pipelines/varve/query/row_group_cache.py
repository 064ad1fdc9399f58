"""Row groups of sample files, decoded on demand and kept within a bound of bytes.

Files never change, so a decoded row group stays true until it is evicted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.fs as pafs
import pyarrow.parquet as pq

from varve.promql.kernels.types import I64
from varve.query.memory import ROW_GROUPS, UNBOUNDED, MemoryBudget
from varve.query.sample_columns import COLUMNS, SampleColumns, from_arrow
from varve.storage.bounds import Bounds
from varve.storage.zone_map import ZoneMap

# Memory that a footer takes, roughly, beside what it holds of each row group.
_FOOTER_BYTES = 2_048
# How soon a query that waits for storage notices that it has to end.
_CHECK_S = 0.1

T = TypeVar("T")


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

    def overlapping_rows(self, series_ids: I64, start_ms: int, end_ms: int) -> int:
        """The rows of those row groups."""
        groups = self.overlapping(series_ids, start_ms, end_ms)
        return sum(self.metadata.row_group(group).num_rows for group in groups)


class RowGroupCache:
    """Decoded row groups and footers by path, the least recently used evicted first.

    Thread-safe. Two threads that miss the same entry both read it.
    """

    def __init__(
        self,
        filesystem: pafs.FileSystem,
        max_bytes: int,
        budget: MemoryBudget | None = None,
        threads: int = 4,
    ) -> None:
        """`threads` read for queries, and as many for the head: neither keeps the other waiting."""
        self._filesystem = filesystem
        self._max_bytes = max_bytes
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._budget.add_cache(self._shrink)
        self._entries: OrderedDict[tuple[str, int], tuple[Any, int]] = OrderedDict()
        """Value and bytes by (path, row group); row group -1 is the footer."""
        self._bytes = 0
        self._lock = threading.Lock()
        self._query_threads = ThreadPoolExecutor(threads, thread_name_prefix="decode")
        self._head_threads = ThreadPoolExecutor(threads, thread_name_prefix="head")
        self._under_way = 2 * threads
        self.decoded = 0
        """Row groups and whole files that were read from storage so far."""

    @property
    def nbytes(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Ends the threads once they have finished the files under way."""
        for threads in (self._query_threads, self._head_threads):
            threads.shutdown(wait=False, cancel_futures=True)

    def read(
        self, row_groups: Iterable[tuple[str, int]], check: Callable[[], None]
    ) -> Iterator[SampleColumns]:
        """Reads row groups (path, number) in their order, some of them ahead.

        `check` is called before each, and may raise. Raises OSError if a file cannot be read or is
        damaged, FileNotFoundError if it is gone.
        """
        ahead: deque[Future[SampleColumns]] = deque()
        try:
            for key in row_groups:
                check()
                ahead.append(self._query_threads.submit(self._row_group, key))
                if len(ahead) >= self._under_way:
                    yield _result(ahead.popleft(), check)
            while ahead:
                yield _result(ahead.popleft(), check)
        finally:
            for future in ahead:
                future.cancel()

    def read_files(self, paths: list[str]) -> list[SampleColumns]:
        """Reads all of each file and keeps nothing of it. OSError as `read`."""
        return list(self._head_threads.map(self._file, paths))

    def footers(self, paths: Sequence[str], check: Callable[[], None]) -> Iterator[Footer]:
        """The footers in the order of the paths; `check` and OSError as `read`."""
        missing = [path for path in paths if self._get((path, -1)) is None]
        ahead = {path: self._query_threads.submit(self.footer, path) for path in missing}
        try:
            for path in paths:
                check()
                future = ahead.get(path)
                yield self.footer(path) if future is None else _result(future, check)
        finally:
            for future in ahead.values():
                future.cancel()

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
        """Keeps an entry that is not over the bound by itself."""
        with self._lock:
            if key in self._entries or size > self._max_bytes:
                return
            self._evict(self._bytes + size - self._max_bytes)
            self._entries[key] = (value, size)
            self._bytes += size
        self._budget.add(ROW_GROUPS, size)

    def _shrink(self, nbytes: int) -> int:
        with self._lock:
            return self._evict(nbytes)

    def _evict(self, nbytes: int) -> int:
        freed = 0
        while freed < nbytes and self._entries:
            _, (_, size) = self._entries.popitem(last=False)
            freed += size
        self._bytes -= freed
        self._budget.add(ROW_GROUPS, -freed)
        return freed


def _result(future: Future[T], check: Callable[[], None]) -> T:
    """What the future gives; `check` is called while it is waited for."""
    while True:
        try:
            return future.result(timeout=_CHECK_S)
        except TimeoutError:
            if future.done():  # the storage's own
                raise
            check()
