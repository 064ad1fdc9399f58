"""Questions to a query service over tables that change (tests/changing.py), each with what its
answer has to be by the versions that it names (tests/versions.py).
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from tests.all_samples import OVER_TIME
from tests.changing import BEGIN, KEPT, SHORT_HOURS, Changing
from tests.unit.promql import naive_functions
from tests.versions import Oracle, Points, State
from varve.model.window import HOUR_MS, MINUTE_MS, RAW, TIERS
from varve.query.provenance import Provenance

KINDS = ("points", "counts", "functions", "rates", "series", "values", "as of", "at least")
WIDTHS = {None: MINUTE_MS, RAW: 1_000} | {tier.name: tier.width_ms for tier in TIERS[:3]}
KEPT_HOURS = 96
"""How long ago of samples is asked for: some of them have expired."""
PANELS = 4
RELATIVE = 1e-9

Params = dict[str, str]
Check = Callable[[Any, "Found"], None]


@dataclass(frozen=True)
class Question:
    """check: raises AssertionError unless the data of an answer is right."""

    kind: str
    path: str
    params: Params
    check: Check
    since_ms: int
    """The earliest time of a sample that it needs."""


@dataclass(frozen=True)
class Found:
    """What an answer rests on. expired_ms: up to where samples may be missing in it."""

    oracle: Oracle
    state: State
    expired_ms: int
    short_expired_ms: int


@dataclass
class Tally:
    """What came of the questions, for any thread."""

    found: Counter[tuple[str, str]] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, kind: str, *what: str) -> None:
        with self.lock:
            self.found.update((kind, one) for one in what)


class Asker:
    """Asks a service over one connection, as fast as it answers."""

    def __init__(
        self, address: str, changing: Changing, oracle: Oracle, tally: Tally, seed: str
    ) -> None:
        self._connection = HTTPConnection(address, timeout=60)
        self._changing, self._oracle, self._tally = changing, oracle, tally
        self._rng = random.Random(seed)
        self._known: deque[tuple[Question, Any]] = deque(maxlen=100)
        """Answers from before."""
        self._versions: Mapping[str, int] = {}
        some = [self._some_series() for _ in range(PANELS)]
        self._panels = [("|".join(map(str, one)), one) for one in some]

    def run(self, goes_on: Callable[[], bool]) -> None:
        try:
            while goes_on():
                self.ask()
        finally:
            self._connection.close()

    def ask(self) -> None:
        kind = self._rng.choice(KINDS)
        if kind == "as of" and self._known:
            self._ask_again()
            return
        asked = getattr(self, f"_{kind.replace(' ', '_')}", self._points)()
        params = dict(asked.params)
        wanted: Mapping[str, int] = {}
        if kind == "at least" and self._known:
            token = self._known[-1][1]["provenance"]["snapshot"]
            params["at_least"], wanted = token, Provenance.versions_of(token)
        status, body = self._get(asked.path, params)
        try:
            self._judge(asked, status, body, wanted)
        except AssertionError as err:
            self._fails(asked, params, body, err)

    def _ask_again(self) -> None:
        """What was answered is answered again from its snapshot, or it is gone."""
        asked, before = self._rng.choice(self._known)
        token = before["provenance"]["snapshot"]
        status, body = self._get(asked.path, asked.params | {"as_of": token})
        try:
            if status == 410:
                assert body["errorType"] == "gone", body
                self._tally.add("as of", "gone")
                return
            assert status == 200, body
            assert body["data"] == before["data"], f"another answer than before: {before}"
            self._tally.add("as of", "the same")
        except AssertionError as err:
            self._fails(asked, asked.params | {"as_of": token}, body, err)

    def _judge(self, asked: Question, status: int, body: Any, wanted: Mapping[str, int]) -> None:
        if status == 422 and "expired" in body["error"]:
            held = self._oracle.state(self._versions) if self._versions else None
            assert held is None or asked.since_ms < self._mark_now(), body
            self._tally.add(asked.kind, "refused")
            return
        assert status == 200, body
        said = body["provenance"]
        versions = Provenance.versions_of(said["snapshot"])
        before = {t: v for t, v in (*self._versions.items(), *wanted.items()) if t in versions}
        assert all(versions[t] >= v for t, v in before.items()), f"older than {before}: {versions}"
        self._versions = versions
        tiers = sorted({t for use in said["selectors"] for t in use["tiers"]} - {RAW})
        state = self._oracle.state(versions, [f"rollup_{tier}" for tier in tiers])
        outcome = ["answered", *(f"from {tier}" for tier in tiers)]
        outcome += [name for name in ("partial", "approximate") if said[name]]
        if said["cached"]:
            outcome.append("with kept steps")
        self._tally.add(asked.kind, *outcome)
        if said["approximate"]:
            return
        if said["partial"]:
            assert asked.since_ms < state.short_expired_ms, "nothing of it had expired"
        lacks = said["partial"] or asked.kind in ("series", "values")
        marks = (state.expired_ms, state.short_expired_ms) if lacks else (0, 0)
        asked.check(body["data"], Found(self._oracle, state, *marks))
        self._known.append((asked, body))

    def _mark_now(self) -> int:
        return self._changing.now_ms - KEPT.kept_ms["samples"]

    def _get(self, path: str, params: Params) -> tuple[int, Any]:
        begun = time.perf_counter()
        self._connection.request("GET", f"{path}?{urlencode(params)}")
        response = self._connection.getresponse()
        body = response.read()
        with self._tally.lock:
            self._tally.seconds.append(time.perf_counter() - begun)
        return response.status, json.loads(body)

    def _fails(self, asked: Question, params: Params, body: Any, err: AssertionError) -> None:
        token = body.get("provenance", {}).get("snapshot")
        versions = Provenance.versions_of(token) if token else {}
        text = f"{asked.kind}: {asked.path} {params}\n  {err}\n  {versions} {json.dumps(body)}"
        with self._tally.lock:
            self._tally.failures.append(text)

    def _some_series(self) -> list[int]:
        return sorted(self._rng.sample(range(self._changing.plan.series), 4))

    def _time(self, unit_ms: int, hours: int = KEPT_HOURS) -> int:
        now = self._changing.now_ms
        return self._rng.randrange(max(BEGIN, now - hours * HOUR_MS), now + 1) // unit_ms * unit_ms

    def _points(self) -> Question:
        """Samples themselves."""
        number, length = self._rng.randrange(self._changing.plan.series), self._length()
        end = self._time(1_000)

        def check(data: Any, found: Found) -> None:
            points = self._of(found, number, end - length, end)
            got = data["result"][0]["values"] if data["result"] else []
            times = [round(at * 1_000) for at, _ in got]
            assert times == sorted(set(times)), "a sample twice, or out of order"
            there = dict(zip(points.ts.tolist(), points.values.tolist(), strict=True))
            extra = [t for t in times if t not in there]
            missing = set(points.ts[points.sure].tolist()).difference(times)
            assert not extra, f"{len(extra)} that are not there, {extra[:3]}"
            assert not missing, f"{len(missing)} missing, {sorted(missing)[:3]}"
            assert [float(v) for _, v in got] == [there[t] for t in times], "other values"

        query = f'long_total{{i="{number}"}}[{length}ms]'
        return self._instant("points", query, end, RAW, end - length, check)

    def _counts(self) -> Question:
        """How many samples of each series."""
        length, end = self._length(), self._time(1_000)

        def check(data: Any, found: Found) -> None:
            got = {int(one["metric"]["i"]): float(one["value"][1]) for one in data["result"]}
            assert len(got) == len(data["result"]), "a series twice"
            for number in range(self._changing.plan.series):
                points = self._of(found, number, end - length, end)
                most, least = len(points.ts), int(points.sure.sum())
                there = got.get(number, 0.0)
                assert least <= there <= most, f"{there} of series {number}, {least} to {most}"

        query = f"count_over_time(long_total[{length}ms])"
        return self._instant("counts", query, end, RAW, end - length, check)

    def _functions(self) -> Question:
        """A function of windows of a tier, at some steps."""
        tier = self._rng.choice([None, None, *WIDTHS])
        width = max(WIDTHS[tier], self._rng.choice([MINUTE_MS, HOUR_MS]))
        length, name = self._rng.randint(1, 4) * width, self._rng.choice(sorted(OVER_TIME))
        step = self._rng.randint(1, 3) * width
        end = self._time(width, KEPT_HOURS if tier == RAW else 160)
        start = end - self._rng.randrange(4) * step
        some, function = self._some_series(), OVER_TIME[name]

        def value(points: Points, _: int) -> float | None:
            return function(points.values.tolist()) if len(points.ts) else None

        def check(data: Any, found: Found) -> None:
            got = _matrix(data, "i")
            for number in some:
                at = range(start, end + 1, step)
                self._compare(got.get(str(number), {}), found, [number], at, length, value)

        text = "|".join(map(str, some))
        query = f'{name}(long_total{{i=~"{text}"}}[{length}ms])'
        return self._range("functions", query, (start, end, step), tier, start - length, check)

    def _rates(self) -> Question:
        """A panel that is refreshed as time goes on."""
        text, some = self._rng.choice(self._panels)
        length, step = 15 * MINUTE_MS, 5 * MINUTE_MS
        end = self._changing.now_ms // step * step
        start = end - 2 * HOUR_MS

        def value(points: Points, at: int) -> float | None:
            pairs = list(zip(points.ts.tolist(), points.values.tolist(), strict=True))
            return naive_functions.rate(pairs, at - length, at, True, True)

        def check(data: Any, found: Found) -> None:
            got = _matrix(data, "job")
            assert got.keys() <= {"a", "b"}, got.keys()
            for place, job in enumerate("ab"):
                of_job = [number for number in some if number % 2 == place]
                at = range(start, end + 1, step)
                self._compare(got.get(job, {}), found, of_job, at, length, value)

        query = f'sum by (job) (rate(long_total{{i=~"{text}"}}[{length}ms]))'
        return self._range("rates", query, (start, end, step), None, start - length, check)

    def _series(self) -> Question:
        """Which short series there are in a range."""
        end = self._time(1_000, 40)
        start = end - self._length()

        def check(data: Any, found: Found) -> None:
            runs = [int(one["run"]) for one in data]
            self._check_runs(runs, start, end, found)

        params = {"match[]": "short_total", "start": _seconds(start), "end": _seconds(end)}
        return Question("series", "/api/v1/series", params, check, start)

    def _values(self) -> Question:
        end = self._time(1_000, 40)
        start = end - self._length()

        def check(data: Any, found: Found) -> None:
            self._check_runs([int(run) for run in data], start, end, found)

        params = {"match[]": "short_total", "start": _seconds(start), "end": _seconds(end)}
        return Question("values", "/api/v1/label/run/values", params, check, start)

    def _check_runs(self, runs: Sequence[int], start: int, end: int, found: Found) -> None:
        assert len(runs) == len(set(runs)), "a series twice"
        for hour, series_id in found.oracle.runs():
            begin = BEGIN + hour * HOUR_MS
            if begin > end or begin + (SHORT_HOURS + 1) * HOUR_MS < start:
                continue
            points = found.oracle.points(series_id, start, end, found.state, found.short_expired_ms)
            assert hour in runs or not points.sure.any(), f"run {hour} is missing"
        newest = self._changing.hours.value + 1
        assert all(run <= newest for run in runs), "a series that is not there yet"

    def _instant(
        self, kind: str, query: str, at_ms: int, tier: str | None, since_ms: int, check: Check
    ) -> Question:
        params = {"query": query, "time": _seconds(at_ms)} | ({"tier": tier} if tier else {})
        return Question(kind, "/api/v1/query", params, check, since_ms)

    def _range(
        self,
        kind: str,
        query: str,
        times: tuple[int, int, int],
        tier: str | None,
        since_ms: int,
        check: Check,
    ) -> Question:
        start, end, step = map(_seconds, times)
        params = {"query": query, "start": start, "end": end, "step": step}
        params |= {"tier": tier} if tier else {}
        return Question(kind, "/api/v1/query_range", params, check, since_ms)

    def _length(self) -> int:
        return self._rng.choice([10 * MINUTE_MS, HOUR_MS, 3 * HOUR_MS]) + self._rng.randrange(9_999)

    def _of(self, found: Found, number: int, start: int, end: int) -> Points:
        series_id = self._ids[number]
        return found.oracle.points(series_id, start, end, found.state, found.expired_ms)

    @property
    def _ids(self) -> Sequence[int]:
        return self._changing.ids

    def _compare(
        self,
        got: Mapping[int, float],
        found: Found,
        numbers: Sequence[int],
        times: Sequence[int],
        length: int,
        value: Callable[[Points, int], float | None],
    ) -> None:
        """The sum of the values of some series at each step, as far as their samples are sure."""
        for at in times:
            points = [self._of(found, number, at - length, at) for number in numbers]
            if not all(one.is_sure for one in points):
                continue
            wanted = [v for one in points if (v := value(one, at)) is not None]
            there = got.get(at)
            assert (there is None) == (not wanted), f"{there} at {at}, not {wanted}"
            if there is not None:
                is_same = math.isclose(there, math.fsum(wanted), rel_tol=RELATIVE)
                assert is_same, f"{there} at {at}, not {math.fsum(wanted)}"
        assert set(got) <= set(times), "steps that were not asked for"


def _matrix(data: Any, label: str) -> Mapping[str, Mapping[int, float]]:
    """Values by that label and time."""
    series = {
        one["metric"].get(label, ""): {round(at * 1_000): float(v) for at, v in one["values"]}
        for one in data["result"]
    }
    assert len(series) == len(data["result"]), "a series twice"
    return series


def _seconds(ms: int) -> str:
    return f"{ms / 1_000:.3f}"


def ask_all(
    address: str,
    changing: Changing,
    *,
    queries: int,
    connections: int,
    seed: int,
    each_s: float = math.inf,
    say: Callable[[str], None] = print,
    goes_on: Callable[[], bool] = lambda: True,
) -> Tally:
    """Asks so many questions over several connections, until one fails, a job has died or nothing
    goes on any more; says how far it is every so many seconds.
    """
    tally, oracle = Tally(), Oracle(changing.folder, changing.plan)

    def is_to_go_on() -> bool:
        ends = len(tally.seconds) >= queries or tally.failures or changing.dead()
        return not ends and goes_on()

    def run(number: int) -> None:
        try:
            Asker(address, changing, oracle, tally, f"{seed} {number}").run(is_to_go_on)
        except BaseException as err:
            with tally.lock:
                tally.failures.append(f"connection {number}: {err!r}")
            raise

    threads = [threading.Thread(target=run, args=(n,)) for n in range(connections)]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    said_s = begun
    while any(thread.is_alive() for thread in threads):
        threads[0].join(0.2)
        if time.monotonic() - said_s > each_s:
            said_s = time.monotonic()
            say(f"  {len(tally.seconds):,} answers, {said_s - begun:.0f} s")
    return tally
