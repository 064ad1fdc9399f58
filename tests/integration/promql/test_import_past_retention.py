"""History past the retention of samples: imported into the rollups, and answered from them as its
source answers.
"""

from __future__ import annotations

import random
import re
import time

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.integration.api_service import served, service_over
from tests.integration.promql.answers import difference
from tests.integration.promql.imported_blocks import write_blocks
from tests.integration.promql.prometheus import missing, prometheus
from tests.tables import WrittenTables
from varve.cli.main import main
from varve.model.identity import define
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS, floor_to

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing())

ROOM = (("__name__", "room_degrees"), ("room", "a"))
DOORS = (("__name__", "doors_opened_total"), ("room", "a"))
# Ages, in days: the defaults keep samples for 15, minutes for 30, five minutes for 90.
OLDEST, NEWEST = 34, 13
QUERIES = [
    "count_over_time(room_degrees[1h])", "sum_over_time(room_degrees[2h])",
    "min_over_time(room_degrees[1h])", "max_over_time(room_degrees[6h])",
    "avg_over_time(room_degrees[1d])", "changes(room_degrees[1h])",
    "increase(doors_opened_total[1h])", "rate(doors_opened_total[6h])",
    "resets(doors_opened_total[1d])", "last_over_time(room_degrees[1h])",
]  # fmt: skip


def history(now_ms):
    rng, value = random.Random(1), 0.0
    room, doors = [], []
    for ts in range(now_ms - OLDEST * DAY_MS, now_ms - NEWEST * DAY_MS, 10 * MINUTE_MS):
        value = 0.0 if rng.random() < 0.01 else value + rng.randrange(9)
        room.append((ts + 377, round(rng.gauss(20, 3), 2)))
        doors.append((ts + 377, value))
    return {ROOM: room, DOORS: doors}


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Tables of a system that runs, where `varve` looks for them."""
    tables = WrittenTables(str(tmp_path / "tables"))
    live = define("live", {})
    tables.define([live])
    now_ms = floor_to(int(time.time() * 1000), MINUTE_MS)
    every = range(now_ms - 3 * HOUR_MS, now_ms, MINUTE_MS)
    tables.put([(live.series_id, ts, 1.0) for ts in every], complete_ms=now_ms)
    tables.roll_up()
    monkeypatch.setenv("VARVE_STORAGE__ROOT", tables.store.root)
    monkeypatch.setenv("VARVE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("VARVE_GATEWAY__PORT", "1")  # nobody listens there, nobody is asked
    return tables


def write_files(points, folder):
    """The first days of DOORS as OpenMetrics, the newer half first, and the others as Parquet.
    Returns how many samples both have, and the names.
    """
    middle = floor_to(points[len(points) // 2][0], DAY_MS)
    old = [point for point in points if point[0] <= middle]
    lines = [
        f'{DOORS[0][1]}{{room="a"}} {value} {ts / 1000}'
        for ts, value in [*old[len(old) // 2 :], *old[: len(old) // 2]]
    ]
    text = folder / "doors.om"
    text.write_text("\n".join(["# TYPE doors_opened counter", *lines, "# EOF\n"]))
    times, values = zip(*points[len(old) :], strict=True)
    tags = pa.array([[("room", "a")]] * len(times), pa.map_(pa.string(), pa.string()))
    columns = {"metric": [DOORS[0][1]] * len(times), "ts": times, "value": values, "tags": tags}
    parquet = folder / "doors.parquet"
    pq.write_table(pa.table(columns), parquet)
    return [len(old), len(times)], [str(text), str(parquet)]


def test_it_is_answered_from_the_rollups_as_by_its_source(tables, tmp_path, capsys):
    now_ms = int(time.time() * 1000)
    samples = history(now_ms)
    write_blocks(samples, tmp_path)  # what Prometheus answers from
    (tmp_path / "room").mkdir()
    write_blocks({ROOM: samples[ROOM]}, tmp_path / "room")
    counts, files = write_files(samples[DOORS], tmp_path)
    paths, counts = [str(tmp_path / "room" / "data"), *files], [len(samples[ROOM]), *counts]

    def told():
        """How many samples went into the tables, by path, and what became of them."""
        return re.findall(r"into the tables: ([\d,]+) samples (.+)", capsys.readouterr().out)

    assert main(["import", *paths, "--dry-run"]) == 0
    assert told() == [(f"{count:,}", "would be taken") for count in counts]
    assert main(["import", *paths]) == 0
    assert told() == [(f"{count:,}", "taken") for count in counts]
    tables.roll_up()
    assert main(["import", *paths]) == 0
    assert told() == [("0", "taken")] * len(paths)

    service = service_over(tables, now_ms=now_ms)
    with prometheus(tmp_path, {}) as oracle, served(service) as url:
        for query in QUERIES:
            for age in (32.5, 29.5, 20, 14):
                at = floor_to(round(now_ms - age * DAY_MS), HOUR_MS) // 1000
                params = {"query": query, "start": at, "end": at + 12 * 3600, "step": 3600}
                expected = oracle.post("/api/v1/query_range", data=params).json()
                found = oracle.post(f"{url}/api/v1/query_range", data=params).json()
                assert expected["data"]["result"], (query, age)
                assert difference(query, expected, found) is None, (query, age)


def test_with_a_gateway_elsewhere_it_says_why_it_will_be_refused(tables, tmp_path, capsys):
    now_ms = int(time.time() * 1000)
    write_blocks({ROOM: [(now_ms - 40 * DAY_MS, 1.0)]}, tmp_path)

    arguments = ["import", str(tmp_path / "data"), "--gateway", "http://127.0.0.1:1", "--dry-run"]
    assert main(arguments) == 0

    assert "too old for a gateway" in capsys.readouterr().err
