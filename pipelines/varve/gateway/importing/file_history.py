"""The old samples of a file as a source of history that goes straight into the tables."""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from varve.maintenance.backfill import Stretch
from varve.model.window import DAY_MS, Window, window_end

# Samples that are held before they are written: about 100 MB.
_HELD = 500_000
_SCHEMA = pa.schema(
    [("series", pa.dictionary(pa.int32(), pa.string())), ("ts", pa.int64()), ("bits", pa.int64())]
)


class FileHistory:
    """Samples up to until_ms, as a file has them, in any order: a `varve.gateway.importing.sources`
    OldRows while it is read, then a `varve.maintenance.backfill.Source`.

    They lie in a folder by the day that they belong to, so that one day is held at a time.
    """

    def __init__(self, file: Path, folder: Path, until_ms: int) -> None:
        """folder: empty, and this one's. until_ms: the end of a day, Unix ms."""
        self.until_ms = until_ms
        self.begin_ms = until_ms
        self.end_ms = 0
        self.samples = 0
        self._file = file
        self._folder = folder
        self._held: defaultdict[int, list[tuple[str, int, float]]] = defaultdict(list)
        self._count = 0

    @cached_property
    def name(self) -> str:
        """A hash of the file's content."""
        with self._file.open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()[:32]

    def add(self, labels: Sequence[tuple[str, str]], ts_ms: int, value: float) -> None:
        """Takes a sample. labels: `__name__` among them."""
        self._held[window_end(ts_ms, DAY_MS)].append((json.dumps(sorted(labels)), ts_ms, value))
        self.begin_ms, self.end_ms = min(self.begin_ms, ts_ms), max(self.end_ms, ts_ms)
        self.samples += 1
        self._count += 1
        if self._count == _HELD:
            self._write()

    def stretches(self, day: Window) -> Iterator[Stretch]:
        """As `Source.stretches`."""
        self._write()
        files = sorted(self._folder.glob(f"{day.end_ms}-*.arrow"))
        if not files:
            return
        tables = []
        for file in files:
            with pa.OSFile(str(file)) as opened, pa.ipc.open_file(opened) as reader:
                tables.append(reader.read_all())
        found = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        column = found.column("series").combine_chunks()
        codes = column.indices.to_numpy()
        ts = found.column("ts").to_numpy()
        order = np.lexsort((ts, codes))
        codes, ts = codes[order], ts[order]
        values = found.column("bits").to_numpy()[order].view(np.float64)
        labels = [tuple(map(tuple, json.loads(text))) for text in column.dictionary.to_pylist()]
        for code in sorted(range(len(labels)), key=labels.__getitem__):
            begin, end = np.searchsorted(codes, [code, code + 1])
            if begin < end:
                yield Stretch(labels[code], ts[begin:end], values[begin:end])

    def _write(self) -> None:
        """Writes what is held, a file a day."""
        for end_ms, rows in self._held.items():
            series, ts, values = zip(*rows, strict=True)
            bits = np.array(values).view(np.int64)
            columns = [pa.array(series).dictionary_encode(), pa.array(ts), pa.array(bits)]
            table = pa.table(columns, schema=_SCHEMA)
            number = self.samples - self._count
            with (
                pa.OSFile(str(self._folder / f"{end_ms}-{number:015}.arrow"), "wb") as file,
                pa.ipc.new_file(file, _SCHEMA) as writer,
            ):
                writer.write_table(table)
        self._held.clear()
        self._count = 0
