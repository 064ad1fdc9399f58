"""A real Prometheus over blocks that its promtool made, and the query service over what an import
of the same blocks has given.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import httpx
import numpy as np

from tests.integration.api_service import served, service_over
from tests.integration.promql.prometheus import prometheus
from tests.integration.promql.shared_queries import BASE_MS, Data
from tests.line import Line
from varve.gateway.decoded import Bounds
from varve.gateway.first_sight import Input, Targets
from varve.gateway.importing.tsdb.block import TsdbBlock, block_folders
from varve.gateway.importing.tsdb.parts import parts_of_block
from varve.gateway.messages import SampleColumns, encode
from varve.gateway.negotiation import Version
from varve.gateway.remote_write import RemoteWriteDecoder, rows_needed
from varve.gateway.replicas import Replicas
from varve.gateway.series_table import SeriesTable
from varve.model.identity import SeriesDefinition
from varve.promql.syntax.go_numbers import format_open_metrics

DAY_S = 86_400
_WILD = [math.nan, math.inf, -math.inf, 0.0, -1.5, 1e300, 1e-7, 3e21]
_TARGETS = 8
# A message may have all of a part.
_MESSAGE_BYTES = 8 << 20
# A block spans less than a week: promtool reads its input once for each.
_BLOCK = "162h"


@contextmanager
def imported(
    folder: Path, r: Random, *, days: float, every_s: int
) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Clients of both, Prometheus' first, over the same history up to BASE_MS + days."""
    write_blocks(history(r, days, every_s), folder)
    now_ms = BASE_MS + round(days * DAY_S) * 1_000
    line = Line(
        str(folder / "tables"),
        now_ms,
        raw_retention_ms=round(2 * days * DAY_S) * 1_000,
        max_message_bytes=_MESSAGE_BYTES,
    )
    for messages in import_of(folder / "data"):
        accounting = line.ingest(*messages)
        assert not accounting["rejected"], accounting
    line.roll_up()
    service = service_over(line, now_ms=now_ms)
    with (
        prometheus(folder, {}) as oracle,
        served(service) as address,
        httpx.Client(base_url=address, timeout=300) as ours,
    ):
        yield oracle, ours


def history(r: Random, days: float, every_s: int) -> Data:
    """c_total: counters that are reset now and then; g: gauges; w: anything; b_bucket: a classic
    histogram. Samples lie at .377 of a second, with gaps of up to hours.
    """
    data: Data = {}
    for i in range(3):
        value, points = r.uniform(1e4, 2e4), []
        for t in _times(r, days, every_s):
            value = value * r.uniform(0.3, 0.5) if r.random() < 0.002 else value + r.randrange(50)
            points.append((t, value))
        data[_labels("c_total", instance=str(i), job="xy"[i % 2])] = points
    for i in range(3):
        digits = r.randrange(6)
        data[_labels("g", instance=str(i), job="xy"[i % 2], zone="eu")] = [
            (t, round(r.gauss(10, 20), digits)) for t in _times(r, days, every_s)
        ]
    data[_labels("w", instance="0")] = [(t, r.choice(_WILD)) for t in _times(r, days, every_s)]
    totals = [1000.0, 2000.0, 3000.0]
    columns: list[list[tuple[int, float | None]]] = [[], [], []]
    for t in _times(r, days, every_s):
        observed = r.randrange(3)
        for place, column in enumerate(columns):
            totals[place] += place >= observed
            column.append((t, totals[place]))
    for bound, column in zip(("0.1", "1", "+Inf"), columns, strict=True):
        data[_labels("b_bucket", instance="0", le=bound)] = column
    return data


def _labels(name: str, **rest: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({"__name__": name, **rest}.items()))


def _times(r: Random, days: float, every_s: int) -> list[int]:
    found, t = [], BASE_MS + r.randrange(every_s) * 1_000 + 377
    while t < BASE_MS + days * DAY_S * 1_000:
        found.append(t)
        t += every_s * 1_000 * (r.randrange(2, 100) if r.random() < 0.003 else 1)
    return found


def write_blocks(data: Data, folder: Path) -> None:
    """Blocks in `data` of the folder, by promtool."""
    lines = []
    for labels, points in data.items():
        tags = ",".join(f'{name}="{value}"' for name, value in labels if name != "__name__")
        series = f"{dict(labels)['__name__']}{{{tags}}}"
        for ts, value in points:
            assert value is not None  # no text says a staleness marker
            lines.append(f"{series} {format_open_metrics(value)} {ts / 1000:.3f}\n")
    text = folder / "history.om"
    text.write_text("".join([*lines, "# EOF\n"]))
    command = ["promtool", "tsdb", "create-blocks-from", f"--max-block-duration={_BLOCK}"]
    command += ["--quiet", "openmetrics", str(text), str(folder / "data")]
    subprocess.run(command, check=True, capture_output=True, timeout=600)


def import_of(folder: Path) -> Iterator[list[bytes]]:
    """What the gateway makes of an import of blocks: the messages of each part."""
    decoder = RemoteWriteDecoder(SeriesTable(lambda: 1, 1 << 20), Targets(_TARGETS), Replicas())
    for block in block_folders(folder):
        for part in parts_of_block(TsdbBlock(block)):
            body = part.content()
            columns = SampleColumns.empty(rows_needed(len(body)))
            found = decoder.decode(
                np.frombuffer(body, np.uint8), Version.V2, Input(), Bounds(0, 1 << 62), columns
            )
            assert found.samples == part.samples
            definitions: dict[int, list[SeriesDefinition]] = {}
            for target, definition in found.definitions:
                definitions.setdefault(target, []).append(definition)
            yield [message.value for message in encode(columns, definitions)]


_WINDOWS = ["5m", "17m", "1h", "6h", "1d", "1d7h", "5d"]
_TEMPLATES = [
    "c_total", "g", "w", "sum(g)", 'g{instance=~"0|2"} offset 7h', "topk(2, g)", "b_bucket",
    "rate(c_total[%s])", "increase(c_total[%s])", "sum by (job) (rate(c_total[%s]))",
    "resets(c_total[%s])", "irate(c_total[%s])", "delta(g[%s])", "deriv(g[%s])",
    "avg_over_time(g[%s])", "sum_over_time(g[%s])", "min_over_time(g[%s])", "max_over_time(w[%s])",
    "count_over_time(w[%s])", "last_over_time(w[%s])", "stddev_over_time(g[%s])",
    "quantile_over_time(0.9, g[%s])", "changes(g[%s])", "present_over_time(w[%s])",
    "histogram_quantile(0.9, sum by (le) (rate(b_bucket[%s])))",
    "avg_over_time(rate(c_total[10m])[%s:17m])", "absent_over_time(g[%s])",
]  # fmt: skip


def random_question(r: Random, days: float) -> tuple[str, str, dict[str, float]]:
    """A query about any part of the history, its path and its times in s."""
    query = r.choice(_TEMPLATES)
    if "%s" in query:
        query %= r.choice(_WINDOWS)
    at = BASE_MS / 1000 + r.randrange(round(days * DAY_S)) + 0.5
    if r.random() < 0.4:
        return query, "/api/v1/query", {"time": at}
    step = r.choice([30, 60, 300, 3_600, 7_200, 86_400])
    end = min(at + step * r.randrange(1, 100), BASE_MS / 1000 + days * DAY_S)
    return query, "/api/v1/query_range", {"start": at, "end": end, "step": step}
