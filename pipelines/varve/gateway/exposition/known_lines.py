"""A target's lines as they were before: a kernel reads those, the readers of the formats the rest.

A body becomes columns with a row a sample, which refer to what is known of its line by number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from varve.gateway import kernel_text
from varve.gateway.exposition.formats import OPEN_METRICS, PROTOBUF
from varve.gateway.exposition.lines import LineRead, at_line
from varve.gateway.exposition.open_metrics import OpenMetricsReader, identity_of
from varve.gateway.exposition.prometheus_text import TextReader
from varve.gateway.exposition.protobuf_families import parse_families
from varve.gateway.exposition.samples import ExposedSample, Exposition, InvalidExposition, Said
from varve.gateway.hash_table import HashTable
from varve.gateway.write_request import Labels
from varve.model.metadata import Metadata

NO_TIME = -(1 << 63) + 1
"""The time of a sample that has none of its own."""

# So many lines at most are read one by one before the kernel is asked again.
_MOST_AT_ONCE = 64
_LEAST_LINES = 64
_WORD = 1 << 64


@dataclass(slots=True)
class ExposedColumns:
    """The samples of a body: number of the line, value, own time or NO_TIME, start or 0. odd: by
    row, samples whose value or exemplars have no column; their times and starts are in the columns.
    """

    lines: np.ndarray
    values: np.ndarray
    times: np.ndarray
    starts: np.ndarray
    odd: Mapping[int, ExposedSample] = field(default_factory=dict)
    metadata: Mapping[str, Metadata] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.lines)

    def sample(self, row: int) -> ExposedSample:
        """One of the odd samples."""
        return self.odd[row]._replace(start_ms=int(self.starts[row]))


class InvalidBody(InvalidExposition):
    """A body is refused as a whole; columns: what was read of it before."""

    def __init__(self, text: str, columns: ExposedColumns) -> None:
        super().__init__(text)
        self.columns = columns


class KnownLines:
    """The lines of a target's bodies, by their text and the TYPE line they are under. For one
    thread. Grows with each line that is new: who owns it begins anew when there are too many.
    """

    def __init__(self) -> None:
        self.labels: list[Labels] = []
        """Of each line; those of comments are empty."""
        self.families: list[str] = []
        self._said: list[Said | None] = []
        self.kind_of: dict[int, tuple[str, str]] = {}
        self.table = HashTable()
        self.kinds = np.zeros(_LEAST_LINES, np.uint8)
        self.marks = np.zeros(_LEAST_LINES, np.uint8)
        self.identities = np.zeros(_LEAST_LINES, np.int32)
        self._identity_numbers: dict[tuple[tuple[str, str], ...], int] = {}
        self._by_labels: dict[tuple[tuple[str, str], ...], int] = {}
        self._described: tuple[bytes, Mapping[str, Metadata]] = b"", {}

    def __len__(self) -> int:
        return len(self.labels)

    def read(self, body: bytes, kind: str) -> ExposedColumns:
        """The samples of a body of a format. Raises InvalidBody."""
        if kind == PROTOBUF:
            return self._of_families(body)
        return _Body(self, body, is_open=kind == OPEN_METRICS).read()

    def samples(self, columns: ExposedColumns) -> list[ExposedSample]:
        """The same one by one."""
        rows = zip(
            columns.lines.tolist(), columns.values.tolist(),
            columns.times.tolist(), columns.starts.tolist(), strict=True,
        )  # fmt: skip
        found = []
        for n, (line, value, ts, start) in enumerate(rows):
            sample = columns.odd.get(n) or ExposedSample(self.labels[line], value)
            found.append(
                sample._replace(
                    ts_ms=None if ts == NO_TIME else ts, start_ms=start, family=self.families[line]
                )
            )
        return found

    def note(self, read: LineRead, kind: int) -> int:
        """Gives a line a number."""
        line = len(self.labels)
        if line == len(self.kinds):
            for name in ("kinds", "marks", "identities"):
                column = getattr(self, name)
                setattr(self, name, np.concatenate([column, np.zeros_like(column)]))
        sample = read.sample
        self.labels.append(() if sample is None else sample.labels)
        self.families.append("" if sample is None else sample.family)
        self._said.append(read.said)
        self.kinds[line] = kind
        self.marks[line] = kernel_text.MAY_START if read.may_start else 0
        self.identities[line] = -1
        if sample is not None and (read.may_start or read.is_created):
            identity = tuple(identity_of(sample.labels))
            numbers = self._identity_numbers
            self.identities[line] = numbers.setdefault(identity, len(numbers))
        return line

    def described(self, comments: np.ndarray) -> Mapping[str, Metadata]:
        """What comments say of their families, in their order."""
        key = comments.tobytes()
        if self._described[0] != key:
            found = Exposition()
            for line in comments.tolist():
                said = self._said[line]
                if said is not None:
                    found.describe(said)
            self._described = key, found.metadata
        return self._described[1]

    def _of_families(self, body: bytes) -> ExposedColumns:
        try:
            found = parse_families(body)
        except InvalidExposition as bad:
            raise InvalidBody(str(bad), self._columns(Exposition(list(bad.before)))) from None
        return self._columns(found)

    def _columns(self, found: Exposition) -> ExposedColumns:
        lines = []
        for sample in found.samples:
            labels = tuple(sample.labels)
            line = self._by_labels.get(labels)
            if line is None:
                line = self.note(LineRead(sample), kernel_text.SAMPLE)
                self._by_labels[labels] = line
            lines.append(line)
        odd = {n: s for n, s in enumerate(found.samples) if _is_odd(s)}
        return ExposedColumns(
            np.array(lines, np.int32),
            np.array([s.value if isinstance(s.value, float) else 0.0 for s in found.samples]),
            _words(NO_TIME if s.ts_ms is None else s.ts_ms for s in found.samples),
            _words(s.start_ms for s in found.samples),
            odd,
            found.metadata,
        )


class _Body:
    """The reading of one body."""

    def __init__(self, known: KnownLines, body: bytes, *, is_open: bool) -> None:
        self._known = known
        self._reader = OpenMetricsReader(body) if is_open else TextReader(body)
        self._is_open = is_open
        # What a line means depends on the format.
        self._seeds = known.table.seeds + np.uint64(is_open)
        self._under = self._seeds.copy()
        most = self._reader.body.count(b"\n")
        self._lines = np.empty(most, np.int32)
        self._values = np.empty(most)
        self._state = np.array([0, -1], np.int64)
        self._times: dict[int, int] = {}
        self._odd: dict[int, ExposedSample] = {}

    def read(self) -> ExposedColumns:
        reader, known, state = self._reader, self._known, self._state
        body = reader.body
        data = np.frombuffer(body, np.uint8)
        end = len(body) - 6 if self._is_open and body.endswith(b"# EOF\n") else len(body)
        at = 0
        patience = 1
        while True:
            before = at
            at = kernel_text.read_lines(
                data, at, self._seeds, self._under, known.table.slots, known.kinds,
                self._lines, self._values, state,
            )  # fmt: skip
            patience = min(2 * patience, _MOST_AT_ONCE) if at == before else 1
            if state[1] >= 0:
                reader.kind, reader.family = known.kind_of[int(state[1])]
            for _ in range(patience):
                if at == end and (not self._is_open or end < len(body)):
                    return self._columns()
                at = self._read_line(at)

    def _read_line(self, at: int) -> int:
        reader, known = self._reader, self._known
        try:
            stop = reader.read_line(at)
        except InvalidExposition as bad:
            raise InvalidBody(str(at_line(reader.body, at, bad)), self._columns()) from None
        read = reader.last
        text = reader.body[at : stop - 1]
        if read.sample is None:
            if b"\n" in text or not text.startswith(b"#"):
                text = b""  # more than a line, or a blank one
            is_type = read.said is not None and read.said.kind is not None
            if not text and read.said is None:
                return stop
            line = self._remember(
                read, text, self._seeds, kernel_text.TYPE if is_type else kernel_text.COMMENT
            )
            if is_type:
                known.kind_of[line] = reader.kind, reader.family
                self._under[:] = known.table.hash(reader.body[at : stop - 1], self._seeds)
                self._state[1] = line
            self._put(line, 0.0)
            return stop
        kind = kernel_text.CREATED if read.is_created else kernel_text.SAMPLE
        line = self._remember(read, read.series, self._under, kind)
        row = int(self._state[0])
        sample = read.sample
        if sample.ts_ms is not None:
            self._times[row] = sample.ts_ms
        if _is_odd(sample):
            self._odd[row] = sample
        self._put(line, sample.value if isinstance(sample.value, float) else 0.0)
        return stop

    def _remember(self, read: LineRead, text: bytes, seeds: np.ndarray, kind: int) -> int:
        """The number of a line, which it keeps if it may be remembered."""
        table = self._known.table
        if not text:
            return self._known.note(read, kind)
        hashed = table.hash(text, seeds)
        line = table.get(hashed)
        if line < 0:
            line = self._known.note(read, kind)
            table.put(hashed, line)
        return line

    def _put(self, line: int, value: float) -> None:
        row = int(self._state[0])
        self._lines[row] = line
        self._values[row] = value
        self._state[0] = row + 1

    def _columns(self) -> ExposedColumns:
        known = self._known
        count = int(self._state[0])
        lines, values = self._lines[:count], self._values[:count]
        times = np.full(count, NO_TIME, np.int64)
        for row, ts in self._times.items():
            times[row] = ts
        starts = np.zeros(count, np.int64)
        if self._is_open:
            kernel_text.find_starts(
                lines, values, known.kinds, known.marks, known.identities, starts
            )
        kinds = known.kinds[lines]
        is_sample = kinds == kernel_text.SAMPLE
        if not self._is_open:
            is_sample |= kinds == kernel_text.CREATED
        places = np.cumsum(is_sample) - 1 if self._odd else ()
        odd = {int(places[row]): sample for row, sample in self._odd.items() if is_sample[row]}
        metadata = known.described(lines[kinds <= kernel_text.TYPE])
        return ExposedColumns(
            lines[is_sample], values[is_sample], times[is_sample], starts[is_sample], odd, metadata
        )


def _is_odd(sample: ExposedSample) -> bool:
    return bool(sample.exemplars) or not isinstance(sample.value, float)


def _words(numbers: Iterable[int]) -> np.ndarray:
    """Numbers as 64 bits, of which those that are larger keep the lower ones."""
    return np.array([(n + (1 << 63)) % _WORD - (1 << 63) for n in numbers], np.int64)
