"""A year of tables in some minutes: rolled up, compacted, moved, expired, vacuumed daily.

    python tests/benchmarks/soak_year.py [--days 365] [--series 200] [--each 14400] [--seed N]

The time is simulated; files, commits and drivers are real. Samples come in pairs, seconds to an
hour apart, and some come late, by as much as is allowed; some series live for three days, and lose
their definitions once their rows have gone. Rows move to a warm root after five days
and to a cold one after twenty. An oracle keeps every sample in plain lists (tests/all_samples.py)
and knows of the storage nothing but how long each table is kept. After every job of every day a
range of a table, and queries by a reader that has followed the tables since, answer as the oracle
does; at the end of each month every table does, over all it has. Prints what each month costs, and
fails if what is stored, the logs or the time to open the tables go on growing.
"""

# ruff: noqa: T201 - what it prints is its output

from __future__ import annotations

import argparse
import math
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "pipelines")]

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
import pyarrow as pa  # noqa: E402

from tests.all_samples import KEYS, OVER_TIME, AllSamples  # noqa: E402
from tests.tables import QUERY  # noqa: E402
from tests.year import BEGIN, TABLES, Year, ids_in, retention  # noqa: E402
from varve.model.identity import SeriesDefinition, define  # noqa: E402
from varve.model.window import DAY_MS, HOUR_MS, MINUTE_MS  # noqa: E402
from varve.promql import kernels  # noqa: E402
from varve.query.evaluation import Options, Range, evaluate  # noqa: E402
from varve.query.tables import Tables  # noqa: E402
from varve.storage import snapshot as snapshots  # noqa: E402
from varve.storage.bounds import Bounds  # noqa: E402
from varve.storage.snapshot import snapshot  # noqa: E402
from varve.storage.store import Store  # noqa: E402

# Days, the finest table first: within a year each begins to expire.
KEPT, DEBUG_KEPT = (30, 60, 120, 180, 270), (1, 2, 120, 180, 270)
PODS_KEPT = (3, 5, 10, 20, 30)
PODS, PODS_LIVE = 4, 3
"""How many series begin each day, and how many days they live."""
MOVED_AFTER = (5 * DAY_MS, 20 * DAY_MS)
ROOTS = ("hot", "warm", "cold")
WIDTHS = dict(zip(TABLES, (1, MINUTE_MS, 5 * MINUTE_MS, HOUR_MS, DAY_MS), strict=True))
APART_MS = (7_000, 100_000, 1_800_000)
"""Between the two samples of a pair: of one minute as a rule, of five, of an hour."""
MONTH = 30
GROWTH = 1.3
"""How many times what it was once it was full a figure may become: the last months differ by how
many files happen to be merged.
"""
# Days after which each figure must not grow: what it counts has begun to go by then.
FULL = {
    **{name: days + MONTH for name, days in zip(TABLES, KEPT, strict=True)},
    **{f"{root} {unit}": 60 for root in ("hot", "warm") for unit in ("files", "MB")},
    **{f"cold {unit}": KEPT[-1] + MONTH for unit in ("files", "MB")},
    "series": PODS_KEPT[-1] + MONTH,
}
MOST_OPENING_MS = 1_000
MOST_LOG_FILES = 320
"""Of a table in a root: two checkpoints stay, a hundred versions apart, and what comes until the
next one.
"""
EXPIRED_WITHIN_MS = 2 * DAY_MS
"""How long a row may stay once it is too old: days go as a whole, a job a day."""
QUERIES = 3
"""After each job."""
ROWS_TOO = 0.4
"""After what share of the jobs a range of a table is read, too."""
CACHE_BYTES = 64 << 20


class AskedYear(Year):
    """A year whose tables are asked all the time, beside an oracle that has nothing of theirs."""

    def __init__(
        self, root: str, seed: int, each_ms: int, colder: Store, series: Sequence[SeriesDefinition]
    ) -> None:
        kept = retention(*KEPT, debug=DEBUG_KEPT[:2], pods=PODS_KEPT)
        super().__init__(root, kept, seed, each_ms, colder, series)
        self._lasting = len(self.series)
        self.oracle_samples = AllSamples()
        self.asked = Counter[str]()
        self.reader = Tables(self.store, [QUERY], CACHE_BYTES)
        self._dice = random.Random(seed + 1)

    def put(self, new: Mapping[tuple[int, int], float | None]) -> None:
        pairs = {
            (series_id, ts - self.rng.choice(APART_MS)): self.value()
            for series_id, ts in new
            if not ts % self.each_ms
        }
        new = {key: value for key, value in pairs.items() if key not in self.samples} | dict(new)
        super().put(new)
        self.oracle_samples.add(new)

    def value(self) -> float | None:
        value = super().value()
        return math.nan if value == 50 else value

    def living(self) -> Sequence[SeriesDefinition]:
        pods = self.series[self._lasting :]
        return [*self.series[: self._lasting], *pods[-PODS * PODS_LIVE :]]

    def live(self) -> None:
        """A day of samples and all jobs; after each the tables answer as the oracle."""
        begun = len(self.series) - self._lasting
        self.series += [
            define("pod_calls", {"env": "prod", "host": f"pod-{begun + n}"}) for n in range(PODS)
        ]
        self.day(parts=2)
        self.ask()
        for job in (self.compact, lambda: self.tier(MOVED_AFTER), self.expire, self.vacuum):
            job()
            self.ask()

    def open_anew(self) -> float:
        """Has a reader that begins now; the CPU ms it took to open."""
        self.reader.close()
        begun = time.process_time()
        self.reader = Tables(self.store, [QUERY], CACHE_BYTES)
        return (time.process_time() - begun) * 1_000

    def ask(self) -> None:
        """Some questions, of ranges of any age of which the rows asked for have not expired."""
        self.reader.poll()
        name, some = self._dice.choice(TABLES), self._some_series()
        span = self._span(name, some) if self._dice.random() < ROWS_TOO else None
        if span is not None:
            self._compare_rows(name, some, *span)
            self.asked["ranges of tables"] += 1
        for _ in range(QUERIES):
            self._query()

    def check_all(self) -> int:
        """Compares everything there is in every table; the number of rows. None is too old."""
        compared = 0
        for name in TABLES:
            now = self.clock.now_ms()
            wanted_since = [self._kept_since(name, s) for s in self.series]
            oldest = min(wanted_since) - EXPIRED_WITHIN_MS
            start = max(BEGIN, oldest) // DAY_MS * DAY_MS
            compared += self._compare_rows(name, self.series, start, now)
            rows = snapshot(self.store, name).scan(Bounds(end_ms=oldest), ["series_id"])
            assert rows.num_rows == 0, f"{name}: {rows.num_rows} rows stay although they are old"
        self.check_definitions()
        return compared

    def _kept_since(self, name: str, series: SeriesDefinition) -> int:
        """Later rows must be there."""
        of_metric = {"debug_calls": DEBUG_KEPT, "pod_calls": PODS_KEPT}
        days = of_metric.get(series.metric, KEPT)[TABLES.index(name)]
        return max(BEGIN, self.clock.now_ms() - days * DAY_MS)

    def _some_series(self) -> list[SeriesDefinition]:
        pods = self.series[self._lasting :]
        some = [*self.series[: self._lasting], *pods[-PODS * PODS_KEPT[-1] :]]
        return self._dice.sample(some, self._dice.choice((1, 1, 3)))

    def _span(self, name: str, series: Sequence[SeriesDefinition]) -> tuple[int, int] | None:
        """Where something begins and ends, in windows that are closed and of which no row has
        expired; None if there are none.
        """
        width = WIDTHS[name]
        since = -(-max(self._kept_since(name, s) for s in series) // width)
        until = self.clock.now_ms() // width
        if until <= since:
            return None
        begin = self._dice.randrange(since, until)
        length = min(until - begin, max(1, int((until - since) * self._dice.random() ** 3)))
        return begin * width, (begin + length) * width

    def _compare_rows(
        self, name: str, series: Sequence[SeriesDefinition], start: int, end: int
    ) -> int:
        """Requires that rows in (start, end] are those of the oracle, less what may have expired;
        their number.
        """
        ids = np.array(sorted(s.series_id for s in series), np.int64)
        rows = snapshot(self.store, name).scan(Bounds(start, end, series_ids=ids))
        since = {s.series_id: self._kept_since(name, s) for s in series}
        if name == "samples":
            there = rows.to_pandas().assign(stale=rows["value"].is_null().to_numpy())
            # Of copies, which there may be of samples, one: those that differ are found below.
            there = there.drop_duplicates().sort_values(["series_id", "ts"])
            wanted = self.oracle_samples.samples(ids, start, end)
            same(name, wanted, there, ["series_id", "ts"], since)
            return len(there)
        width = WIDTHS[name]
        end = end // width * width
        there, entries = newest(rows)
        wanted, wanted_entries = self.oracle_samples.windows(ids, width, start, end)
        same(name, wanted, there, KEYS, since)
        same(f"sketches of {name}", wanted_entries, entries, [*KEYS, "key"], since)
        return len(there)

    def _query(self) -> None:
        """A function of a range, at some steps, from a tier or from what the planner chooses."""
        name, some = self._dice.choice(TABLES), self._some_series()
        if (span := self._span(name, some)) is None:
            return
        start, end = span
        function = self._dice.choice(sorted(OVER_TIME))
        width = WIDTHS[name]
        length = max(1, self._dice.randint(1, (end - start) // width)) * width
        step = max(1, (end - start - length) // width // 3) * width
        at = Range(start + length, end, step)
        tier = self._dice.choice((None, name.removeprefix("rollup_").replace("samples", "raw")))
        hosts = "|".join(dict(s.tags)["host"] for s in some)
        text = f'{function}({{host=~"{hosts}"}}[{length}ms])'
        answer = evaluate(self.reader.view, text, at, Options(tier=tier))
        assert not answer.provenance.is_partial, text
        assert not answer.provenance.moved_ms, text
        steps = range(at.start_ms, at.end_ms + 1, at.step_ms)
        wanted = {
            (dict(s.tags)["host"], t): OVER_TIME[function](values)
            for s in some
            for t in steps
            if (values := self._values(s, t - length, t))
        }
        found = answered(answer.result)
        asked = f"{text} at {at} from {tier}"
        assert found.keys() == wanted.keys(), asked
        for key, value in wanted.items():
            is_same = math.isclose(found[key], value, rel_tol=3e-12, abs_tol=3e-12)
            assert is_same or (math.isnan(found[key]) and math.isnan(value)), (
                f"{asked}: {found[key]} for {key}, not {value}"
            )
        self.asked[answer.provenance.tier] += 1

    def _values(self, series: SeriesDefinition, start: int, end: int) -> list[float]:
        points = self.oracle_samples.points(series.series_id, start, end)
        return [value for _, value in points if value is not None]


def answered(result: object) -> dict[tuple[str, int], float]:
    """The points of a matrix by host and time."""
    matrix = result.value  # type: ignore[attr-defined]
    labels, times = matrix.labels.labels(), result.times.tolist()  # type: ignore[attr-defined]
    return {
        (dict(labels[row])["host"], times[step]): float(matrix.values[row, step])
        for row in result.order.tolist()  # type: ignore[attr-defined]
        for step in np.flatnonzero(matrix.present[row]).tolist()
    }


def newest(rows: pa.Table) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The newest revision of each rollup row, and the entries of their sketches, by their keys."""
    frame = rows.drop_columns(["sketch"]).to_pandas().sort_values([*KEYS, "revision"])
    frame = frame.drop_duplicates(KEYS, keep="last")
    frame["total"] = frame.pop("sum") + frame.pop("sum_error")
    sketches = rows["sketch"].combine_chunks().take(pa.array(frame.index.to_numpy()))
    entries = sketches.flatten()
    of_row = np.repeat(np.arange(len(frame)), np.diff(sketches.offsets.to_numpy()))
    found = (
        frame[KEYS]
        .iloc[of_row]
        .assign(key=entries.field("key").to_numpy(), entries=entries.field("count").to_numpy())
    )
    return frame.drop(columns="revision"), found


def same(
    name: str,
    wanted: pd.DataFrame,
    there: pd.DataFrame,
    keys: list[str],
    since: Mapping[int, int],
) -> None:
    """Requires that all rows are wanted, and all that are wanted and later than `since` are there.

    since: by series_id.
    """
    wanted, there = wanted.set_index(keys), there.set_index(keys)
    assert there.index.is_unique, f"{name}: rows twice"
    extra = there.index.difference(wanted.index)
    assert extra.empty, f"{name}: {len(extra)} too many, {list(extra[:3])}"
    missing = wanted.index.difference(there.index)
    times = missing.get_level_values(1)
    due = missing[times > missing.get_level_values(0).map(since)] if len(missing) else missing
    assert due.empty, f"{name}: {len(due)} missing, {list(due[:3])}"
    columns = sorted(wanted)
    assert sorted(there) == columns
    mine = there[columns].to_numpy(np.float64)
    theirs = wanted.loc[there.index, columns].to_numpy(np.float64)
    rows, wrong = np.nonzero((mine != theirs) & ~(np.isnan(mine) & np.isnan(theirs)))
    places = [
        (there.index[row], columns[column], mine[row, column], theirs[row, column])
        for row, column in zip(rows[:3].tolist(), wrong[:3].tolist(), strict=True)
    ]
    assert not places, f"{name}: {len(rows)} values differ, {places}"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--series", type=int, default=200)
    parser.add_argument("--each", type=int, default=14_400, help="seconds from pair to pair")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    args = parser.parse_args()
    kernels.warm_up()
    # A minute is months here, and what was removed is vacuumed at once: it is looked for each time.
    snapshots._COLDER_EVERY_S = 0.0
    print(
        f"seed {args.seed}; rows by table; series defined; live files and MB by root; logs; CPU ms"
        " to open all tables, and the reader of queries",
        flush=True,
    )
    with tempfile.TemporaryDirectory() as folder:
        cold = Store(f"{folder}/cold")
        colder = Store(f"{folder}/warm", {}, cold)
        series = list(some_series(args.series))
        year = AskedYear(f"{folder}/hot", args.seed, args.each * 1_000, colder, series)
        failures = simulate(year, args.days, Path(folder))
        year.reader.close()
    print(", ".join(f"{n:,} {tier}" for tier, n in sorted(year.asked.items())), "asked")
    print("\n".join(failures) or "nothing grows that must not")
    return 1 if failures else 0


def some_series(count: int) -> Iterator[SeriesDefinition]:
    """One in twenty is of the class that is kept for a day."""
    for n in range(count):
        name, env = ("debug_calls", "dev") if n % 20 == 19 else ("requests_total", "prod")
        yield define(name, {"env": env, "host": str(n)})


def simulate(year: AskedYear, days: int, folder: Path) -> Sequence[str]:
    """Lives through the days; returns what grew that must not."""
    full: dict[str, float] = {}
    failures = []
    for day in range(1, days + 1):
        year.live()
        if day % MONTH and day != days:
            continue
        figures, opened_ms = state(year, folder)
        for name, since in FULL.items():
            if day >= since and figures[name] > GROWTH * full.setdefault(name, figures[name]):
                failures.append(f"{name}: {figures[name]:,.2f} on day {day}")
        if opened_ms > MOST_OPENING_MS or figures["longest log"] > MOST_LOG_FILES:
            longest = figures["longest log"]
            failures.append(f"day {day}: opened in {opened_ms:.0f} ms, a log of {longest} files")
        begun = time.process_time()
        print(f"  as the oracle has them: {year.check_all():,} rows", end="")
        print(f", in {time.process_time() - begun:.0f} CPU s", flush=True)
    return failures


def state(year: AskedYear, folder: Path) -> tuple[dict[str, float], float]:
    """Prints a line of figures, and returns them, and the most CPU ms that an opening took."""
    begun = time.process_time()
    tables = {name: snapshot(year.store, name) for name in TABLES}
    opened_ms = (time.process_time() - begun) * 1_000
    reader_ms = year.open_anew()
    figures: dict[str, float] = {n: sum(f.rows for f in t.files) for n, t in tables.items()}
    files = []
    for name, root in zip(ROOTS, year.store.roots(), strict=True):
        there = [
            file
            for table in tables.values()
            for file in table.files
            if year.store.place(file.path)[0].root == root.root
        ]
        figures[f"{name} files"] = len(there)
        figures[f"{name} MB"] = sum(f.size for f in there) / 1e6
        files.append(f"{name} {len(there):,} of {figures[f'{name} MB']:.2f} MB")
    figures["series"] = len(ids_in(year.store, "series"))
    logs = list(folder.glob("*/*/_delta_log/*"))
    log_mb = sum(file.stat().st_size for file in logs) / 1e6
    figures["longest log"] = max(Counter(file.parent for file in logs).values())
    day = (year.clock.now_ms() - BEGIN) // DAY_MS
    rows = " ".join(f"{int(figures[name]):>9,}" for name in TABLES)
    print(
        f"day {day:3}: {rows}; {figures['series']:,.0f} of {len(year.series):,} series;"
        f" {', '.join(files)}; logs {len(logs):,} files of"
        f" {log_mb:.2f} MB; {opened_ms:.0f}, {reader_ms:.0f} ms;"
        f" {time.process_time():.0f} CPU s",
        flush=True,
    )
    return figures, max(opened_ms, reader_ms)


if __name__ == "__main__":
    sys.exit(main())
