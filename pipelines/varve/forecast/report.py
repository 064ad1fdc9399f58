"""The report of capacity: which resources run out when, the most urgent first."""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from varve.anomaly.minute_values import judged_kinds
from varve.forecast import capacity
from varve.forecast.breach import FIRING, PENDING
from varve.model.clock import utc_text
from varve.model.identity import canonical
from varve.model.window import DAY_MS
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store


@dataclass(frozen=True, slots=True)
class Line:
    """One series of one resource. Times are ms since the Unix epoch, days are from now on."""

    resource: str
    series: str
    value: float
    threshold: float
    reached: str
    state: str
    days_left: float | None
    """Until the expected value is there; negative if it should be by now."""
    earliest_days: float | None
    """Until the near bound of the interval is."""
    reaches_at: int | None
    earliest_at: int | None
    probability: float
    trained_until: int
    reason: str
    metric: str
    tags: dict[str, str]
    is_rate: bool
    """Whether value and forecast are growth per second, as of a counter."""

    def as_json(self) -> dict[str, Any]:
        fields = asdict(self)
        fields["threshold"] = self.threshold if math.isfinite(self.threshold) else None
        return fields


def capacity_report(store: Store, now_ms: int) -> list[Line]:
    """What was last found of each series of each resource: those that run out first, then by
    probability. Raises NeedsOperator if there are no tables.
    """
    rows = list(capacity.newest(store).values())
    ids = np.unique(np.array([row["series_id"] for row in rows], np.int64))
    columns = ("series_id", "metric", "tags", "type")
    series = snapshot(store, "series").scan(Bounds(series_ids=ids), columns)
    named = {r["series_id"]: (r["metric"], dict(r["tags"])) for r in series.to_pylist()}
    judged, is_rate = judged_kinds(series)
    rates = {*judged[is_rate].tolist()}
    lines = [
        _line(row, *named[row["series_id"]], now_ms, is_rate=row["series_id"] in rates)
        for row in rows
        if row["series_id"] in named
    ]
    return sorted(lines, key=_urgency)


def as_html(lines: Sequence[Line], now_ms: int) -> str:
    """The report as a page of its own: no script, nothing from elsewhere."""
    head = "".join(f"<th>{html.escape(name)}</th>" for name in HEAD)
    body = "".join(
        f'<tr class="{line.state}">'
        + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells(line))
        + "</tr>"
        for line in lines
    )
    running_out = sum(line.state == FIRING for line in lines)
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8">
<title>Capacity</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ border-bottom: 1px solid #ccc; padding: .35rem .6rem; text-align: left; }}
td:nth-child(n+3) {{ font-variant-numeric: tabular-nums; white-space: nowrap; }}
tr.firing td:first-child {{ border-left: 4px solid #c0392b; }}
tr.pending td:first-child {{ border-left: 4px solid #d68910; }}
tr.clear td:first-child {{ border-left: 4px solid #2e7d4f; }}
</style>
<h1>Capacity</h1>
<p>{running_out} of {len(lines)} run out within a week, as of {utc_text(now_ms)}. Red: the
expected value reaches the threshold; amber: the bound of its 80 % interval does.</p>
<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>
</html>
"""


HEAD = ("resource", "series", "now", "threshold", "days left", "at the earliest", "probability")


def cells(line: Line) -> tuple[str, ...]:
    """A line for people, by HEAD."""
    sign = "≥" if line.reached == "above" else "≤"
    threshold = f"{sign} {_short(line.threshold)}" if math.isfinite(line.threshold) else line.reason
    return (
        line.resource,
        line.series,
        _short(line.value),
        threshold,
        _days(line.days_left),
        _days(line.earliest_days),
        f"{line.probability:.0%}",
    )


def _line(
    row: dict[str, Any], metric: str, tags: dict[str, str], now_ms: int, *, is_rate: bool
) -> Line:
    return Line(
        row["resource"],
        canonical(metric, tags),
        row["value"],
        row["threshold"],
        row["reached"],
        row["state"],
        _days_from(row["reaches_at"], now_ms),
        _days_from(row["earliest_at"], now_ms),
        row["reaches_at"],
        row["earliest_at"],
        row["probability"],
        row["trained_until"],
        row["reason"],
        metric,
        tags,
        is_rate,
    )


def _urgency(line: Line) -> tuple[int, float, float, str]:
    rank = {FIRING: 0, PENDING: 1}.get(line.state, 2)
    days = next((d for d in (line.days_left, line.earliest_days) if d is not None), math.inf)
    return rank, days, -line.probability, line.series


def _days_from(at_ms: int | None, now_ms: int) -> float | None:
    return None if at_ms is None else (at_ms - now_ms) / DAY_MS


def _days(days: float | None) -> str:
    if days is None:
        return "over 7"
    return "now" if days <= 0 else f"{days:.1f}"


def _short(value: float) -> str:
    """With a prefix from a thousand on: 402.1 G."""
    for power, prefix in ((12, "T"), (9, "G"), (6, "M"), (3, "k")):
        if abs(value) >= 10**power:
            return f"{value / 10**power:.1f} {prefix}"
    return f"{value:.3g}"
