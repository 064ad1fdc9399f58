"""Asks a query service: PromQL and SQL to Arrow, pandas and polars, with what answers rest on.

query = Query("http://127.0.0.1:9690")
query.range("rate(node_cpu_seconds_total[1m])", start=noon, end=one, step="15s").to_pandas()
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

import httpx
import numpy as np
import pyarrow as pa

from varve.client.http_access import Login, http_client
from varve.model.errors import VarveError

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl

Time = dt.datetime | float | str
"""A time with its zone, Unix seconds, or RFC 3339."""

METRIC: Final = "__name__"
TIMESTAMP: Final = "timestamp"
VALUE: Final = "value"
_UTC_MS: Final = pa.timestamp("ms", "UTC")
_ARROW: Final = "application/vnd.apache.arrow.stream"
# Over query.timeout_s, so that the service itself says when a query takes too long.
_TIMEOUT_S: Final = 130.0


class QueryFailed(VarveError):
    """The service has no answer.

    error_type is Prometheus' (bad_data, execution, timeout, ...), unavailable if nobody answers.
    position is where the query is wrong, as start and end in bytes of its UTF-8, if it is known.
    """

    def __init__(
        self, text: str, error_type: str, position: Mapping[str, int] | None = None
    ) -> None:
        super().__init__(text)
        self.error_type = error_type
        self.position = position


@dataclass(frozen=True)
class Frame:
    """An answer as a table, and what it rests on.

    Of PromQL, `arrow` has a row for each point: a column for each label, in the order of their
    names with __name__ first (null where a series lacks it), then timestamp (UTC, ms) and value.
    Of SQL, it has the columns of the statement.
    """

    arrow: pa.Table
    provenance: Mapping[str, Any] = field(default_factory=dict)
    """`snapshot`, `complete_until`, `tier`, `approximate`, ...: docs/query.md."""
    warnings: Sequence[str] = ()
    infos: Sequence[str] = ()

    @property
    def snapshot(self) -> str:
        """What `as_of` takes to get the same answer again; empty if the service did not say."""
        return str(self.provenance.get("snapshot", ""))

    def to_pandas(self) -> pd.DataFrame:
        """A DataFrame, whose attrs have provenance, warnings and infos."""
        frame: pd.DataFrame = self.arrow.to_pandas()
        frame.attrs |= {
            "provenance": dict(self.provenance),
            "warnings": list(self.warnings),
            "infos": list(self.infos),
        }
        return frame

    def to_polars(self) -> pl.DataFrame:
        """A DataFrame of polars, which has no place for provenance. ImportError without polars."""
        import polars as pl  # noqa: PLC0415 - nobody else needs it

        frame = pl.from_arrow(self.arrow)
        if isinstance(frame, pl.Series):
            raise TypeError("a table is no series")
        return frame


class Query:
    """A query service. Safe to share between threads; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str,
        *,
        token: str = "",
        user: tuple[str, str] | None = None,
        as_of: Time | None = None,
        verify: bool | str = True,
        timeout_s: float = _TIMEOUT_S,
    ) -> None:
        """url: such as http://127.0.0.1:9690. token, or user with a password: who asks. as_of: a
        snapshot of an answer, or a time: what all answers are from; the newest by default. verify:
        False, or a file of certificates, for a service whose certificate the machine does not know.
        """
        self._url = url.rstrip("/")
        self._as_of = "" if as_of is None else _as_of_text(as_of)
        self._client = http_client(Login(token, user, verify), timeout_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes its connections."""
        self._client.close()

    def instant(self, promql: str, *, at: Time | None = None, tier: str = "") -> Frame:
        """The values of an expression at one time, by default now. tier: raw, 1m, 5m, 1h or 1d to
        answer from. Raises QueryFailed.
        """
        form = {"query": promql, "tier": tier}
        if at is not None:
            form["time"] = _time_text(at)
        return _frame(self._ask("query", form))

    def range(
        self,
        promql: str,
        *,
        start: Time,
        end: Time,
        step: float | str | dt.timedelta,
        tier: str = "",
    ) -> Frame:
        """The values of an expression from start to end, a step apart: seconds, "5m", a timedelta.
        Raises QueryFailed.
        """
        seconds = step.total_seconds() if isinstance(step, dt.timedelta) else step
        form = {
            "query": promql,
            "start": _time_text(start),
            "end": _time_text(end),
            "step": str(seconds),
            "tier": tier,
        }
        return _frame(self._ask("query_range", form))

    def sql(self, statement: str) -> Frame:
        """The rows of one SELECT over the tables and views. Raises QueryFailed."""
        response = self._post("sql", {"query": statement}, _ARROW)
        if response.headers.get("content-type") != _ARROW:
            raise QueryFailed("this service answers no SQL as Arrow", "unavailable")
        table = pa.ipc.open_stream(response.content).read_all()
        said = {
            "snapshot": response.headers.get("varve-snapshot", ""),
            "complete_until": _number(response.headers.get("varve-complete-until")),
        }
        return Frame(table, said)

    def series(self, *match: str, start: Time | None = None, end: Time | None = None) -> Frame:
        """Label sets of the series that one of the selectors selects, seen from start to end: a
        column for each label. Raises QueryFailed.
        """
        answer = self._ask("series", {"match[]": list(match)} | _bounds(start, end))
        columns = _label_columns(answer["data"], np.ones(len(answer["data"]), dtype=np.int64))
        return _with_notes(pa.table(columns), answer)

    def label_values(
        self, label: str, *match: str, start: Time | None = None, end: Time | None = None
    ) -> list[str]:
        """Values of a label over these series, or over all. Raises QueryFailed."""
        given = {"match[]": list(match)} | _bounds(start, end)
        if self._as_of:
            given["as_of"] = self._as_of
        name = label if label.isidentifier() else "U__" + _escaped(label)
        values: list[str] = self._read(self._send("GET", f"label/{name}/values", params=given))[
            "data"
        ]
        return values

    def _ask(self, path: str, form: Mapping[str, Any]) -> dict[str, Any]:
        return self._read(self._post(path, form, "application/json"))

    def _post(self, path: str, form: Mapping[str, Any], accept: str) -> httpx.Response:
        sent = {name: value for name, value in form.items() if value != ""}
        if self._as_of:
            sent["as_of"] = self._as_of
        response = self._send("POST", path, data=sent, headers={"Accept": accept})
        if response.status_code != httpx.codes.OK:
            self._read(response)
        return response

    def _send(self, method: str, path: str, **more: Any) -> httpx.Response:
        try:
            return self._client.request(method, f"{self._url}/api/v1/{path}", **more)
        except httpx.HTTPError as err:
            raise QueryFailed(f"no answer of {self._url}: {err}", "unavailable") from err

    def _read(self, response: httpx.Response) -> dict[str, Any]:
        """The answer. QueryFailed if it is an error, or none of a query service."""
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict) or "status" not in answer:
            text = f"{self._url} answers HTTP {response.status_code}, but not as a query service"
            raise QueryFailed(text, "unavailable")
        if answer["status"] != "success":
            raise QueryFailed(answer["error"], answer["errorType"], answer.get("position"))
        return answer


def _frame(answer: Mapping[str, Any]) -> Frame:
    """An answer of PromQL as a table. QueryFailed for native histograms."""
    data = answer["data"]
    result = data["result"]
    if data["resultType"] in ("scalar", "string"):
        at, value = result
        kind = pa.float64() if data["resultType"] == "scalar" else pa.string()
        number = float(value) if data["resultType"] == "scalar" else value
        columns = {TIMESTAMP: _times([at]), VALUE: pa.array([number], kind)}
        return _with_notes(pa.table(columns), answer)
    points: list[Sequence[Any]] = []
    counts = []
    for series in result:
        if "histogram" in series or "histograms" in series:
            text = "a frame has no place for native histograms: ask for histogram_quantile or"
            raise QueryFailed(f"{text} histogram_sum of them", "execution")
        own = series["values"] if "values" in series else [series["value"]]
        points += own
        counts.append(len(own))
    columns = _label_columns([s["metric"] for s in result], np.array(counts, dtype=np.int64))
    columns[TIMESTAMP] = _times([at for at, _ in points])
    columns[VALUE] = pa.array([float(value) for _, value in points], pa.float64())
    return _with_notes(pa.table(columns), answer)


def _label_columns(
    label_sets: Sequence[Mapping[str, str]], counts: np.ndarray[Any, np.dtype[np.int64]]
) -> dict[str, pa.Array]:
    """A column for each label; the i-th label set is in counts[i] rows."""
    names = sorted(
        {name for labels in label_sets for name in labels}, key=lambda n: (n != METRIC, n)
    )
    columns = {}
    for name in names:
        values = pa.array([labels.get(name) for labels in label_sets], pa.string())
        encoded = values.dictionary_encode()
        rows = pa.array(np.repeat(np.arange(len(label_sets)), counts))
        # A label may be called as the columns that follow.
        shown = f"label_{name}" if name in (TIMESTAMP, VALUE) else name
        columns[shown] = encoded.take(rows)
    return columns


def _with_notes(table: pa.Table, answer: Mapping[str, Any]) -> Frame:
    provenance = answer.get("provenance", {})
    said = {b"varve.provenance": json.dumps(provenance).encode()}
    return Frame(
        table.replace_schema_metadata(said),
        provenance,
        answer.get("warnings", ()),
        answer.get("infos", ()),
    )


def _times(seconds: Sequence[float]) -> pa.Array:
    return pa.array(np.round(np.array(seconds, dtype=np.float64) * 1000).astype(np.int64), _UTC_MS)


def _time_text(time: Time) -> str:
    """A time as the service reads it. ValueError without a zone: it would be anybody's guess."""
    if isinstance(time, dt.datetime):
        if time.tzinfo is None:
            raise ValueError(f"{time} has no time zone: give it one, such as datetime.UTC")
        return f"{time.timestamp():.3f}"
    return time if isinstance(time, str) else f"{time:.3f}"


def _as_of_text(as_of: Time) -> str:
    return _time_text(as_of)


def _bounds(start: Time | None, end: Time | None) -> dict[str, Any]:
    given = (("start", start), ("end", end))
    return {name: _time_text(time) for name, time in given if time is not None}


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdigit() else None


def _escaped(name: str) -> str:
    """A name in Prometheus' escaping, without U__."""
    return "".join(
        "__" if c == "_" else c if c.isascii() and c.isalnum() else f"_{ord(c):x}_" for c in name
    )
