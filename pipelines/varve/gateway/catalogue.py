"""Series by number, so that kernels can write requests of them: their labels are texts by number
too, each kept once.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from varve.gateway import kernel_requests
from varve.gateway.first_sight import TYPE_NAMES
from varve.model.metadata import NOTHING_KNOWN, Metadata

_TYPES = {name: number for number, name in enumerate(TYPE_NAMES)}
_LEAST = 256


class Samples(NamedTuple):
    """Samples of a catalogue's series, each an array: number of the series, bits of the value as
    uint64, time and start in ms, 0 for no start.
    """

    series: np.ndarray
    values: np.ndarray
    times: np.ndarray
    starts: np.ndarray


class Written(NamedTuple):
    """Fields of a request: symbols, and series of each run of samples."""

    symbols: bytes
    series: list[bytes]


class Catalogue:
    """Series that requests are written of. For one thread. Only grows: who owns it begins another
    when this one has become too large.
    """

    def __init__(self) -> None:
        self._texts = np.empty(1 << 14, np.uint8)
        self.text_bytes = 0
        """Of all texts."""
        self._spans = np.zeros((_LEAST, 2), np.int64)
        self._numbers = np.zeros(_LEAST, np.int32)
        self._stamps = np.zeros(_LEAST, np.int64)
        self._refs = np.empty(1 << 12, np.int32)
        self._refs_size = 0
        self._series = np.zeros((_LEAST, kernel_requests.SERIES_COLUMNS), np.int64)
        self._count = 0
        self._text_of: dict[str, int] = {"": 0}
        self._stamp = 0

    def __len__(self) -> int:
        return self._count

    def add(self, labels: tuple[tuple[str, str], ...], metadata: Metadata = NOTHING_KNOWN) -> int:
        """The number of a series, by its sorted labels with `__name__`, none empty. Raises
        UnicodeEncodeError.
        """
        refs = [self._text(text) for pair in labels for text in pair]
        begin = self._refs_size
        self._refs = _with_room(self._refs, begin + len(refs))
        self._refs[begin : begin + len(refs)] = refs
        self._refs_size += len(refs)
        self._series = _with_room(self._series, self._count + 1)
        self._series[self._count, :2] = begin, self._refs_size
        self._count += 1
        self.describe(self._count - 1, metadata)
        return self._count - 1

    def describe(self, series: int, metadata: Metadata) -> None:
        """Says other metadata of a series."""
        self._series[series, 2:] = (
            _TYPES.get(metadata.type, 0), self._text(metadata.help), self._text(metadata.unit)
        )  # fmt: skip

    def write(self, runs: Sequence[Samples], first_symbol: int) -> Written:
        """Samples as fields of a remote write request of version 2.0: symbols of numbers from
        `first_symbol` on, and series. Symbol 0 must be the empty text.
        """
        self._stamp += 1
        symbols = np.empty(self.text_bytes + 8 * len(self._text_of), np.uint8)
        state = np.array([first_symbol, 0, 0], np.int64)
        written = []
        for samples in runs:
            series = samples.series.astype(np.int64, copy=False)
            told = self._series[series]
            refs = int((told[:, 1] - told[:, 0]).sum())
            most = kernel_requests.MOST_BYTES * len(series) + kernel_requests.MOST_REF_BYTES * refs
            out = np.empty(most, np.uint8)
            state[2] = 0
            kernel_requests.write_samples(
                self._series, self._refs, self._spans, self._texts, self._numbers, self._stamps,
                self._stamp, series, samples.values, samples.times, samples.starts, symbols, out,
                state,
            )  # fmt: skip
            written.append(out[: state[2]].tobytes())
        return Written(symbols[: state[1]].tobytes(), written)

    def _text(self, text: str) -> int:
        number = self._text_of.get(text)
        if number is None:
            encoded = np.frombuffer(text.encode(), np.uint8)
            number = len(self._text_of)
            begin, end = self.text_bytes, self.text_bytes + len(encoded)
            self._texts = _with_room(self._texts, end)
            self._texts[begin:end] = encoded
            self._spans = _with_room(self._spans, number + 1)
            self._spans[number] = begin, end
            self._numbers = _with_room(self._numbers, number + 1)
            self._stamps = _with_room(self._stamps, number + 1)
            self.text_bytes = end
            self._text_of[text] = number
        return number


def _with_room(array: np.ndarray, rows: int) -> np.ndarray:
    """The array, or one twice as large with what it holds."""
    if rows <= len(array):
        return array
    size = len(array)
    while size < rows:
        size *= 2
    found = np.zeros((size, *array.shape[1:]), array.dtype)
    found[: len(array)] = array
    return found
