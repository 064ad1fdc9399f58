"""The aggregate of a window, and its laws.

`aggregate` makes rows of samples, `merge` makes rows of rows (varve.rollups.kernel). Both read
their input sorted by (series_id, time) with one entry per key, so their result does not depend on
the order of arrival.

1. merge is associative on adjacent windows up to rounding of sum and m2: the rows of a tier are
   always computed along the one tree samples -> 1m -> 5m -> 1h -> 1d, and so are bit-identical.
2. A window without samples has no row; a row with count 0 holds staleness markers only.
3. count, nan_count, min, max, first, previous, last, resets, changes, stale_ts and the sketch are
   exact. sum + sum_error is within 1e-12 of the sum of |value|, m2 within 1e-12 of itself (plus
   what underflows, below 1e-300).
4. Growth of a counter over adjacent windows a, b: last(b) - first(a) + reset_correction(a merge b):
   a drop between the last of a and the first of b is in the merged correction.

NaN is a value of count, first, last and changes (NaN equals NaN there), of no drop, and not of sum,
min, max, m2 and the sketch; min and max are NaN if all values are. With an infinity the sum is
infinite, or NaN with both, and m2 is NaN. A sum of finite values beyond the greatest double is
infinite while min and max are not: sum_error is then the sum times 2^-64, so that neither averages
nor wider sums are lost. m2 beyond the greatest double is infinite.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from varve.model.schema import table_schema

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NEVER = np.iinfo(np.int64).min
"""Stands for a time that there is not."""
WIDE = 2.0**-64
"""The factor by which sums beyond the greatest double are scaled down."""


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a rollup table as columns of one length.

    The columns are those of schemas/tables/rollup.sql. Where a row has no such value the column
    holds 0 (times: NEVER); which those are follows from count, nan_count and stale_ts. The sketch
    of row r is sketch_keys and sketch_counts [sketch_starts[r], sketch_starts[r + 1]).
    """

    series_id: Ints
    window_end: Ints
    count: Ints
    nan_count: Ints
    sum: Floats
    sum_error: Floats
    min: Floats
    max: Floats
    m2: Floats
    base: Floats
    first_ts: Ints
    first_value: Floats
    previous_ts: Ints
    previous_value: Floats
    last_ts: Ints
    last_value: Floats
    reset_correction: Floats
    resets: Ints
    changes: Ints
    stale_ts: Ints
    sketch_starts: Ints
    sketch_keys: npt.NDArray[np.int32]
    sketch_counts: Ints

    def __len__(self) -> int:
        return len(self.series_id)


COLUMNS = tuple(f.name for f in fields(Rows) if not f.name.startswith("sketch"))


def to_table(rows: Rows, revision: int) -> pa.Table:
    """Rows as a table of a rollup table's columns, which are the same in every tier."""
    absent = _absent(rows)
    columns: dict[str, pa.Array] = {
        name: pa.array(getattr(rows, name), mask=absent.get(name)) for name in COLUMNS
    }
    schema = table_schema("rollup_1m").arrow
    entries = pa.StructArray.from_arrays(
        [pa.array(rows.sketch_keys), pa.array(rows.sketch_counts)], names=["key", "count"]
    )
    columns["sketch"] = pa.ListArray.from_arrays(
        pa.array(rows.sketch_starts, pa.int32()), entries, type=schema.field("sketch").type
    )
    columns["revision"] = pa.array(np.full(len(rows), revision, dtype=np.int64))
    return pa.table([columns[name] for name in schema.names], names=schema.names)


def from_table(table: pa.Table) -> Rows:
    """The reverse of `to_table`, less the revision, in the table's order."""
    table = table.combine_chunks()
    columns = {}
    for name in COLUMNS:
        column = table.column(name)
        blank = NEVER if name.endswith("_ts") else 0
        columns[name] = (column.fill_null(blank) if column.null_count else column).to_numpy()
    sketch = table.column("sketch")
    sketch = sketch.chunk(0) if sketch.num_chunks else pa.array([], sketch.type)
    lengths = np.diff(sketch.offsets.to_numpy())
    entries = sketch.flatten()
    return Rows(
        **columns,
        sketch_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        sketch_keys=entries.field("key").to_numpy(),
        sketch_counts=entries.field("count").to_numpy(),
    )


def total(rows: Rows) -> Floats:
    """The sums, rounded once; infinite beyond the greatest double. Shape (len(rows),)."""
    return np.where(np.isfinite(rows.sum), rows.sum + rows.sum_error, rows.sum)


def mean(rows: Rows) -> Floats:
    """The means of the values that are not NaN, finite even where the sum is not; NaN without any.

    Shape (len(rows),).
    """
    numbers = (rows.count - rows.nan_count).astype(np.float64)
    wide = np.isinf(rows.sum) & np.isfinite(rows.min) & np.isfinite(rows.max)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(wide, rows.sum_error / numbers / WIDE, total(rows) / numbers)


def _absent(rows: Rows) -> dict[str, npt.NDArray[np.bool_]]:
    """Masks of the rows in which a column is NULL, by column; columns without any are left out."""
    empty, single = rows.count == 0, rows.count < 2
    no_number = rows.count == rows.nan_count
    masks = {
        "min": empty,
        "max": empty,
        "base": no_number,
        "first_ts": empty,
        "first_value": empty,
        "previous_ts": single,
        "previous_value": single,
        "last_ts": empty,
        "last_value": empty,
        "stale_ts": rows.stale_ts == NEVER,
    }
    return {name: mask for name, mask in masks.items() if mask.any()}
