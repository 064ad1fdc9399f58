"""What is expected of minutes, looked up in rows of the table baselines. Pure."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from varve.model.calendar import NO_HOLIDAYS, Calendar
from varve.model.window import MINUTE_MS

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_SLOTS = 169  # the reference, and 168 hours
_MODULUS = {"none": 1, "day": 24, "week": 168}

BEYOND = ("held_above", "held_below", "extreme_above", "extreme_below")


@dataclass(frozen=True, slots=True)
class BaselineIndex:
    """The baselines of some series, to be looked up. Arrays over series are sorted by id."""

    ids: Ints
    modulus: Ints
    """Of the hour of the week, for the slot: 1, 24 or 168."""
    reference: Ints
    """Row of the reference of each series."""
    keys: Ints
    """Place of the series times 169, plus 0 for season none or the slot plus 1; sorted."""
    rows: Ints
    """Row of each key."""
    mean: Floats
    stddev: Floats
    count: Ints
    computed_at: Ints
    is_rate: Mask
    """Of each row, as what follows."""
    interval_ms: Ints
    spans_zero: Mask
    beyond: dict[str, Floats]
    """BEYOND by name; NaN where it is not known."""
    calendar: Calendar

    @classmethod
    def of(cls, table: pa.Table, calendar: Calendar = NO_HOLIDAYS) -> BaselineIndex:
        """table: rows of baselines; of several runs the latest of each series counts. calendar: as
        they were computed by.
        """
        newest = _newest_run(table)
        table = table.filter(pa.array(newest)) if not newest.all() else table
        series, slot = (table[c].to_numpy() for c in ("series_id", "hour_of_week"))
        season = np.array(table["season"].to_pylist(), dtype="<U4")
        is_reference = (season == "none") & (
            np.array(table["method"].to_pylist(), dtype="<U6") == "mean"
        )
        ids = np.unique(series)
        place = np.searchsorted(ids, series)
        reference = np.zeros(len(ids), np.int64)
        reference[place[is_reference]] = np.flatnonzero(is_reference)
        chosen = np.flatnonzero(~is_reference)
        modulus = np.ones(len(ids), np.int64)
        for name, hours in _MODULUS.items():
            modulus[place[chosen[season[chosen] == name]]] = hours
        keys = place[chosen] * _SLOTS + np.where(season[chosen] == "none", 0, slot[chosen] + 1)
        order = np.argsort(keys)
        return cls(
            ids,
            modulus,
            reference,
            keys[order],
            chosen[order],
            table["mean"].to_numpy(),
            table["stddev"].to_numpy(),
            table["count"].to_numpy(),
            table["computed_at"].to_numpy(),
            table["is_rate"].to_numpy(zero_copy_only=False),
            _optional(table, "interval_ms", MINUTE_MS, np.int64),
            _optional(table, "spans_zero", True, np.bool_),
            {name: _optional(table, name, math.nan, np.float64) for name in BEYOND},
            calendar,
        )

    def look_up(self, series: Ints, ends: Ints, *, plain: Mask) -> tuple[Ints, Mask]:
        """Row of the baseline of each minute, and whether there is one. plain: minutes for which
        the reference is wanted, whatever was chosen.
        """
        if not len(self.ids):
            return np.zeros(len(series), np.int64), np.zeros(len(series), np.bool_)
        place = np.minimum(np.searchsorted(self.ids, series), len(self.ids) - 1)
        there = self.ids[place] == series
        rows = self.reference[place]
        if len(self.keys):
            modulus = self.modulus[place]
            slot = np.where(modulus == 1, 0, self.calendar.hour_of_week(ends) % modulus + 1)
            wanted = place * _SLOTS + slot
            at = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
            rows = np.where((self.keys[at] == wanted) & ~plain, self.rows[at], rows)
        return rows, there


def _optional(table: pa.Table, name: str, default: Any, kind: Any) -> Any:
    """A column that rows of an earlier release lack, and readers that do not ask for it."""
    if name not in table.column_names:
        return np.full(table.num_rows, default, kind)
    column = pc.fill_null(table[name], pa.scalar(default, table.schema.field(name).type))
    return column.to_numpy().astype(kind)


def _newest_run(table: pa.Table) -> Mask:
    computed = table["computed_at"].to_numpy()
    if not len(computed) or computed.min() == computed.max():
        return np.ones(len(computed), np.bool_)
    ids, place = np.unique(table["series_id"].to_numpy(), return_inverse=True)
    latest = np.full(len(ids), computed.min())
    np.maximum.at(latest, place, computed)
    found: Mask = computed == latest[place]
    return found
