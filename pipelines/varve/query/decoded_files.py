"""What is decoded of the tables' files, kept within a bound of bytes, and the threads that decode.

Files never change, so what is decoded stays true until it is evicted.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from varve.model.schema import table_schema
from varve.promql.kernels.types import I64
from varve.query.kept_footers import KeptFooters
from varve.query.memory import ROW_GROUPS, UNBOUNDED, MemoryBudget
from varve.storage import scaled_values
from varve.storage.bounds import Bounds
from varve.storage.zone_map import ZoneMap

# Memory that a footer takes, roughly, beside what it holds of each row group.
_FOOTER_BYTES = 2_048
# How soon a query that waits for storage notices that it has to end.
_CHECK_S = 0.1

Key = tuple[str, str, Any]
"""Table, path, and what of the file: a row group, a column of one, or None for its footer."""


class Sized(Protocol):
    @property
    def nbytes(self) -> int: ...


T = TypeVar("T")
S = TypeVar("S", bound=Sized)
K = TypeVar("K")


@dataclass(frozen=True, slots=True)
class Footer:
    """A file's metadata and the zone map of its row groups."""

    metadata: pq.FileMetaData
    zones: ZoneMap

    @property
    def nbytes(self) -> int:
        return _FOOTER_BYTES + 32 * self.metadata.num_row_groups

    def overlapping(self, series_ids: I64, start_ms: int, end_ms: int) -> list[int]:
        """Row groups that can hold rows of the ids (ascending) in (start_ms, end_ms]."""
        found = self.zones.overlapping(Bounds(start_ms, end_ms, series_ids))
        groups: list[int] = np.flatnonzero(found).tolist()
        return groups

    def overlapping_rows(self, series_ids: I64, start_ms: int, end_ms: int) -> int:
        """The rows of those row groups."""
        groups = self.overlapping(series_ids, start_ms, end_ms)
        return sum(self.metadata.row_group(group).num_rows for group in groups)


class DecodedFiles:
    """Decoded parts of files and footers, the least recently used evicted first.

    Thread-safe. Of threads that miss the same entry one reads it, and the others wait for it.
    """

    def __init__(
        self,
        open_file: Callable[[str, str], pa.NativeFile],
        max_bytes: int,
        budget: MemoryBudget | None = None,
        threads: int = 4,
        footers: KeptFooters | None = None,
    ) -> None:
        """open_file: opens a table's file by its path. `threads` read for queries, and as many for
        the head: neither keeps the other waiting. footers: those that are on disk; its owner closes
        them.
        """
        self._footers = footers
        self._open_file = open_file
        self._max_bytes = max_bytes
        self._budget = budget or MemoryBudget(UNBOUNDED)
        self._budget.add_cache(self._shrink)
        self._entries: OrderedDict[Key, tuple[Any, int]] = OrderedDict()
        """Value and bytes."""
        self._bytes = 0
        self._being_made: dict[Key, Future[Any]] = {}
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

    def ahead(
        self, keys: Iterable[K], load: Callable[[K], T], check: Callable[[], None]
    ) -> Iterator[T]:
        """What `load` gives for each key, in their order, some of it read ahead.

        `check` is called before each, and may raise. Raises what `load` does.
        """
        under_way: deque[Future[T]] = deque()
        try:
            for key in keys:
                check()
                under_way.append(self._query_threads.submit(load, key))
                if len(under_way) >= self._under_way:
                    yield _result(under_way.popleft(), check)
            while under_way:
                yield _result(under_way.popleft(), check)
        finally:
            for future in under_way:
                future.cancel()

    def for_head(self, keys: Iterable[K], load: Callable[[K], T]) -> list[T]:
        """What `load` gives for each key, read by the threads of the head."""
        return list(self._head_threads.map(load, keys))

    def footers(
        self, table: str, paths: Sequence[str], check: Callable[[], None]
    ) -> Iterator[Footer]:
        """The footers in the order of the paths. Raises OSError if a file cannot be read or is
        damaged, FileNotFoundError if it is gone, and what `check` does.
        """
        missing = [path for path in paths if self.get((table, path, None)) is None]
        ahead = {p: self._query_threads.submit(self.footer, table, p) for p in missing}
        try:
            for path in paths:
                check()
                future = ahead.get(path)
                yield self.footer(table, path) if future is None else _result(future, check)
        finally:
            for future in ahead.values():
                future.cancel()

    def footer(self, table: str, path: str) -> Footer:
        """OSError as `footers`."""

        def read() -> Footer:
            kept = None if self._footers is None else self._footers.get(table, path)
            if kept is not None:
                metadata = kept
            else:
                with self.open(table, path) as file:
                    metadata = pq.read_metadata(file)
                if self._footers is not None:
                    self._footers.put(table, path, metadata)
            time = table_schema(table).time_column
            return Footer(metadata, ZoneMap.of_row_groups(metadata, time))

        return self.kept((table, path, None), read)

    def read_columns(self, table: str, path: str, group: int, names: Sequence[str]) -> pa.Table:
        """Columns of a row group, from storage. Raises OSError as `footers`."""
        metadata = self.footer(table, path).metadata
        with self.open(table, path) as file:
            parquet = pq.ParquetFile(file, metadata=metadata)
            rows: pa.Table = scaled_values.read_columns(parquet, names, [group])
        self._count_decoded()
        return rows

    def read_file(
        self, table: str, path: str, names: Sequence[str], series_ids: I64 | None = None
    ) -> pa.Table:
        """Columns of a whole file, from storage; of those row groups alone that can hold rows of
        series_ids (ascending), unless that is None. Raises OSError as `footers`.
        """
        with self.open(table, path) as file:
            parquet = pq.ParquetFile(file)
            groups: Sequence[int] = range(parquet.num_row_groups)
            if series_ids is not None:
                zones = ZoneMap.of_row_groups(parquet.metadata, None)
                found = zones.overlapping(Bounds(series_ids=series_ids))
                groups = np.flatnonzero(found).tolist()
            rows = scaled_values.read_columns(parquet, names, groups)
        self._count_decoded()
        return rows

    @contextmanager
    def open(self, table: str, path: str) -> Iterator[pa.NativeFile]:
        """The file, while it is read. OSError also for one that is damaged."""
        try:
            with self._open_file(table, path) as file:
                yield file
        except pa.ArrowException as err:
            raise OSError(f"{path}: {err}") from err

    def kept(self, key: Key, make: Callable[[], S]) -> S:
        """What is kept under a key, or else what `make` gives, which is kept then."""
        with self._lock:
            if key in self._entries:
                self._entries.move_to_end(key)
                return cast(S, self._entries[key][0])
            other = self._being_made.get(key)
            if other is None:
                mine: Future[S] = Future()
                self._being_made[key] = mine
        if other is not None:
            return cast(S, other.result())
        try:
            value = make()
        except BaseException as err:
            mine.set_exception(err)
            raise
        else:
            self.put(key, value, value.nbytes)
            mine.set_result(value)
            return value
        finally:
            with self._lock:
                del self._being_made[key]

    def discard(self, keys: Iterable[Key]) -> None:
        """Keeps these no longer."""
        with self._lock:
            freed = sum(self._entries.pop(key, (None, 0))[1] for key in keys)
            self._bytes -= freed
        self._budget.add(ROW_GROUPS, -freed)

    def get(self, key: Key) -> Any:
        """What is kept under a key, None if nothing is."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key][0]

    def put(self, key: Key, value: Any, size: int) -> None:
        """Keeps an entry of so many bytes, unless it is over the bound by itself."""
        with self._lock:
            if key in self._entries or size > self._max_bytes:
                return
            self._evict(self._bytes + size - self._max_bytes)
            self._entries[key] = (value, size)
            self._bytes += size
        self._budget.add(ROW_GROUPS, size)

    def _count_decoded(self) -> None:
        with self._lock:
            self.decoded += 1

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
            if future.done():  # the storage's own, or it came just now
                return future.result()
            check()
