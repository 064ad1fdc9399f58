"""Alerts of other jobs over a real table: told as the topic says, whoever dies."""

import json
import tempfile

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.model.alert_event import AlertEvent
from varve.model.resources import schemas_dir
from varve.rules.running.claims import ClaimLog
from varve.rules.running.event_topic import Read
from varve.rules.running.job_alerts import JobAlerts
from varve.rules.running.job_events import RefusedEvent, event_row
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.store import Store
from varve.storage.table import create_tables
from varve.telemetry.metrics import RulesMetrics
from varve.telemetry.registry import Telemetry

MINUTE_MS = 60_000
NOW_MS = 1_800_000_000_000
PLACE = "jobs:topic:0"


class Died(Exception):
    pass


class World:
    """A topic of one partition, a clock, and what a notifier was told."""

    def __init__(self, root: str) -> None:
        self.store = Store(root)
        create_tables(self.store, ("alerts",))
        self.now_ms = NOW_MS
        self.messages: list[bytes] = []
        self.told: list[tuple[int, str, int, int]] = []
        self.gone: set[str] = set()
        self.number = 0

    def say(self, name: str, state: str, at_ms: int | None = None, ends_ms=None) -> None:
        at_ms = self.now_ms if at_ms is None else at_ms
        event = AlertEvent({"alertname": name}, state, at_ms, at_ms, {"n": str(at_ms)})
        body = json.loads(event.message())
        self.messages.append(json.dumps(body | ({"ends_at": ends_ms} if ends_ms else {})).encode())

    def process(self, fault=lambda _point: None) -> "Process":
        self.number += 1
        return Process(self, f"p{self.number}", fault)

    def firing(self, now_ms: int) -> set[str]:
        """What a notifier takes for firing: the last word of each alert, if its end lies ahead."""
        last = {name: ends_ms for _, name, _, ends_ms in self.told}
        return {name for name, ends_ms in last.items() if ends_ms > now_ms}

    def rows(self) -> list[tuple[str, str, int]]:
        rows = snapshot(self.store, "alerts").scan(Bounds()).to_pylist()
        return [(row["rule"], row["state"], row["evaluated_at"]) for row in rows]


class MemoryTopic:
    """Gives the messages of the world from a position on, a few at a time."""

    def __init__(self, world: World, positions) -> None:
        self._world, self._at = world, positions.get(PLACE, 0)

    def start(self) -> None: ...
    def stop(self) -> None: ...

    def take(self) -> list[Read]:
        values = tuple(self._world.messages[self._at : self._at + 3])
        if not values:
            return []
        self._at += len(values)
        return [Read(PLACE, self._at, values)]


class Process:
    def __init__(self, world: World, name: str, fault) -> None:
        self.world, self._fault = world, fault
        self.metrics = RulesMetrics(Telemetry())
        self.claims = ClaimLog(
            world.store,
            2,
            name,
            lease_s=10,
            monotonic_s=lambda: world.now_ms / 1000,
            now_ms=lambda: world.now_ms,
            is_gone=world.gone.__contains__,
        )
        self.jobs = JobAlerts(
            self.claims,
            world.store,
            lambda positions: MemoryTopic(world, positions),
            self,
            self.metrics,
            lambda: world.now_ms,
            resend_ms=MINUTE_MS,
            history_ms=4_000 * MINUTE_MS,
        )

    def put_of_jobs(self, shard, sent) -> None:
        self._fault("before telling")
        self.world.told += [
            (self.world.now_ms, dict(one.labels)["alertname"], one.starts_at_ms, one.ends_at_ms)
            for one in sent
        ]
        self._fault("after telling")

    def live(self, ticks: int = 1) -> None:
        for _ in range(ticks):
            self.claims.look()
            if take := self.claims.to_take():
                self.claims.take(take)
            self.jobs.tick()

    def count(self, outcome: str) -> float:
        return self.metrics.job_events.labels(outcome)._value.get()


@pytest.fixture
def world(tmp_path):
    return World(str(tmp_path))


steps = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from("xyz"), st.sampled_from(["firing", "resolved"])),
        st.tuples(st.just("again"), st.integers(0, 9)),
        st.tuples(st.just("wait"), st.sampled_from([1, 30, 61, 600, 7_000])),
        st.tuples(st.just("die"), st.sampled_from(["before telling", "after telling"])),
        st.tuples(st.just("tick")),
    ),
    max_size=25,
)


@settings(max_examples=40)
@given(steps)
def test_a_notifier_knows_in_the_end_what_fires_whoever_dies_and_whatever_comes_twice(found):
    with tempfile.TemporaryDirectory() as root:
        world = World(root)
        dying: list[str] = []

        def fault(point: str) -> None:
            if point in dying:
                dying.clear()
                raise Died

        process, fires, last = world.process(fault), {}, 0
        for step in [*found, ("wait", 61), ("tick",)]:
            if step[0] == "say":
                world.now_ms += 1
                world.say(*step[1:])
                fires[step[1]] = step[2] == "firing"
            elif step[0] == "again" and world.messages:
                world.messages.append(world.messages[step[1] % len(world.messages)])
            elif step[0] == "wait":
                world.now_ms += step[1] * 1000
            elif step[0] == "die":
                dying[:] = [step[1]]
            else:
                try:
                    process.live(20)
                except Died:
                    world.gone.add(f"p{world.number}")
                    process = world.process(fault)
                    process.live(20)
                last = world.now_ms
        assert last == world.now_ms
        assert world.firing(world.now_ms) == {name for name, does in fires.items() if does}
        rows = world.rows()
    assert len(rows) == len(set(rows))


def test_an_alert_that_fires_is_told_again_until_it_ends_and_its_end_for_a_while(world):
    process = world.process()
    world.say("x", "firing")
    process.live()
    began_ms = world.now_ms
    for _ in range(3):
        world.now_ms += MINUTE_MS
        process.live()
    world.say("x", "resolved")
    ended_ms = world.now_ms
    for _ in range(20):
        process.live()
        world.now_ms += MINUTE_MS

    assert [told[2:] for told in world.told[:4]] == [
        (began_ms, began_ms + n * MINUTE_MS + 4 * MINUTE_MS) for n in range(4)
    ]
    assert {told[3] for told in world.told[4:]} == {ended_ms}
    assert len(world.told[4:]) == 16


def test_an_alert_that_says_when_it_ends_ends_then(world):
    process = world.process()
    world.say("x", "firing", ends_ms=NOW_MS + 5 * MINUTE_MS)
    for _ in range(8):
        process.live()
        world.now_ms += MINUTE_MS

    assert world.told[-1][3] == NOW_MS + 5 * MINUTE_MS
    assert world.firing(world.now_ms) == set()


def test_what_is_no_event_is_counted_and_the_rest_is_told(world):
    world.messages += [b"", b"\xff", b"{}", b"[1]", json.dumps({"labels": {}}).encode()]
    world.say("x", "firing")
    process = world.process()

    process.live(5)

    assert (process.count("refused"), process.count("taken")) == (5, 1)
    assert world.firing(world.now_ms) == {"x"}


def test_events_of_rules_are_left_to_rules_and_do_not_make_commits(world):
    body = json.loads(AlertEvent({"alertname": "A"}, "firing", 1, 2).message())
    world.messages = [json.dumps(body | {"rule_group": "f;g"}).encode()] * 50
    process = world.process()
    process.live()
    version = process.claims._table.version

    process.live(30)

    assert (world.told, world.rows(), process.claims._table.version) == ([], [], version)


SCHEMA = json.loads((schemas_dir() / "wire" / "alert-event.schema.json").read_text())
CHECK = jsonschema.Draft202012Validator(SCHEMA)
EVENT = json.loads(AlertEvent({"alertname": "A", "x": "y"}, "firing", 1, 2, value=1.5).message())
anything = st.none() | st.integers() | st.floats() | st.text() | st.just("NaN") | st.just([])
anything |= st.dictionaries(st.text(), st.text() | st.integers(), max_size=2)


@settings(max_examples=150)
@given(st.sampled_from(sorted(EVENT)), anything)
def test_nothing_is_taken_that_the_schema_does_not_allow(name, value):
    body = EVENT | {name: value}
    try:
        row = event_row(json.dumps(body).encode())
    except RefusedEvent:
        return

    CHECK.validate(body)
    assert row is not None
    assert row["labels"] == body["labels"]
