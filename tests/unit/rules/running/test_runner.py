"""Rules over real tables: in time, once, whoever dies; and what happens without all data."""

import errno
import tempfile
from functools import cache

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from tests.unit.rules.running.world import START_MS, Died, Process, World
from varve.maintenance.compaction import due_merges, merge_files
from varve.rules.running.claims import ClaimLog, shard_of
from varve.rules.running.runner import Runner
from varve.storage.snapshot import snapshot

RULES = """
groups:
- name: g
  rules:
  - record: twice
    expr: m * 2
  - record: older
    expr: sum_over_time(twice[20s])
  - alert: High
    expr: twice > 10
    for: 10s
- name: slow
  interval: 15s
  rules:
  - record: slow:m
    expr: max(m) + 0 * count(older or m)
  - alert: Low
    expr: m < 3
    keep_firing_for: 20s
"""
VALUES = [1, 1, 7, 7, 7, 7, 2, 2, 2, 8, 8, 8, 8, 8, 1, 1, 1, 1, 6, 6]


def value_at(second: int) -> int:
    return VALUES[second // 5 % len(VALUES)]


def live(world: World, process: Process, seconds: int, every_s: int = 5) -> None:
    """A sample every 5 s, or as often as it is said, which the tables have 2 s later."""
    for _ in range(seconds // every_s):
        world.now_ms += 1_000 * every_s
        world.produce("m", value_at((world.now_ms - START_MS) // 1000), host="a")
        world.now_ms += 2_000
        world.ingest(world.now_ms - 1_000)
        try:
            process.tick()
        finally:
            world.now_ms -= 2_000


def states(world: World) -> list[tuple]:
    return [change[:3] for change in world.changes()]


@pytest.fixture
def world(tmp_path):
    return World(str(tmp_path))


def test_slots_are_evaluated_in_order_once_their_data_is_complete(world):
    process = Process(world, RULES)

    live(world, process, 60)

    recorded = world.samples("twice")[(("host", "a"),)]
    assert list(recorded) == sorted(recorded) == [float(s) for s in range(5, 60, 5)]
    assert all(recorded[s] == 2 * value_at(int(s)) for s in recorded)
    assert states(world)[:3] == [
        (10.0, "pending", "High"),
        (20.0, "firing", "High"),
        (30.0, "firing", "Low"),
    ]
    assert process.count("skipped") == process.count("late") == 0


def test_nothing_is_evaluated_before_its_data_is_complete(world):
    process = Process(world, RULES, wait_s=1_000)
    live(world, process, 30)
    before = states(world)

    for _ in range(60):
        world.now_ms += 1_000
        world.produce("m", 100.0, host="a")
        process.tick()

    assert states(world) == before


def test_an_alert_does_not_wait_for_ever_and_is_looked_at_again(world):
    process = Process(world, RULES, wait_s=8)
    live(world, process, 30)  # m is 7 at the end: High fires
    assert (20.0, "firing", "High") in states(world)
    stalled_ms = world.now_ms

    for _ in range(40):  # ingest stands still, m has fallen to 2
        world.now_ms += 1_000
        if world.now_ms % 5_000 == 0:
            world.produce("m", value_at((world.now_ms - START_MS) // 1000), host="a")
        process.tick()
    before = dict(world.samples("twice")[(("host", "a"),)])
    provisional = [c for c in world.changes() if c[3]]
    assert max(before) <= (stalled_ms - START_MS) / 1000
    world.ingest(world.now_ms)
    process.tick()
    world.ingest(world.now_ms)

    after = world.samples("twice")[(("host", "a"),)]
    assert all(after[float(s)] == 2 * value_at(s) for s in range(5, 70, 5))
    assert [c[1] for c in world.changes(reviews=True)].count("different") > 0
    assert provisional == [c for c in world.changes() if c[3]]


@cache
def oracle(seconds: int, every_s: int = 5) -> tuple[list, dict, dict]:
    with tempfile.TemporaryDirectory() as root:
        world = World(root)
        process = Process(world, RULES, interval_s=every_s)
        live(world, process, seconds, every_s)
        world.ingest()
        process.close()
        return states(world), world.samples("twice"), world.samples("slow:m")


POINTS = [
    *("before claim", "after claim", "before sending", "after sending"),
    *("before done", "after done", "before take", "after take"),
]


@settings(max_examples=6, phases=[Phase.explicit, Phase.reuse, Phase.generate])
@given(st.lists(st.tuples(st.sampled_from(POINTS), st.integers(1, 6)), min_size=1, max_size=5))
def test_whoever_dies_wherever_nothing_is_lost_and_nothing_told_twice(deaths):
    seconds = 100
    with tempfile.TemporaryDirectory() as root:
        world, left, dead = World(root), [], set()

        def fault(point: str) -> None:
            if left and left[0][0] == point:
                name, more = left.pop(0)
                if more > 1:
                    left.insert(0, (name, more - 1))
                    return
                raise Died(point)

        def begun(number: int) -> Process:
            return Process(
                *(world, RULES, f"p{number}"), gone=dead.__contains__, fault=fault, wait_s=60
            )

        number, process = 0, begun(0)
        live(world, process, 10)
        left += deaths
        for _ in range(seconds // 5 - 2):
            try:
                live(world, process, 5)
            except Died:
                dead.add(f"p{number}")
                process.close()
                number, process = number + 1, begun(number + 1)
        left.clear()
        live(world, process, 20)
        world.ingest()
        process.close()

        expected = oracle(seconds + 20)
        assert states(world) == expected[0]
        assert world.samples("twice") == expected[1]
        assert world.samples("slow:m") == expected[2]
        assert len({e["event_id"] for e in world.events}) == len(expected[0])


def test_a_claim_that_is_finished_in_one_shard_is_evaluated_again_in_the_others_alone(world):
    """One process claims slots of two shards and dies. Of the two that take them one goes on and
    ends in order, the other dies without having noted an outcome; then a fourth takes both.
    """
    rules = "groups:\n" + "".join(
        f"- name: g{n}\n  rules:\n  - record: r{n}\n    expr: m + {n}\n" for n in range(4)
    )
    gone, dying = {"a"}, {}

    def process(name: str) -> Process:
        def fault(point: str) -> None:
            if dying.get(name) == point:
                raise Died(point)

        return Process(
            *(world, rules, name), gone=gone.__contains__, fault=fault, wait_s=60, lease_s=60
        )

    def ticks(one: Process, more: Process) -> None:
        for _ in range(4):
            one.tick()
            more.tick()

    first = process("a")
    live(world, first, 10)
    dying["a"] = "after claim"
    with pytest.raises(Died):
        live(world, first, 5)
    first.close()
    second, third = process("b"), process("e")
    for one in (second, third):  # so named, each of them is to have one shard
        one.runner.claims.look()
        one.runner.claims.announce()
    world.now_ms += 2_000
    dying["e"] = "before sending"
    with pytest.raises(Died):
        ticks(second, third)
    third.close()
    world.now_ms -= 2_000
    mine = second.runner.claims.mine()
    assert len(mine) == 1
    live(world, second, 20)  # within the third's lease
    assert second.runner.claims.mine() == mine
    second.runner.stop()  # all is noted
    second.close()
    gone |= {"b", "e"}
    fourth = process("d")
    live(world, fourth, 20)
    world.ingest()

    for n in range(4):
        points = world.samples(f"r{n}")[(("host", "a"),)]
        expected = {float(at): value_at(at) + n for at in range(5, 60, 5)}
        assert points == expected, n


def test_processes_share_the_groups_and_take_over_from_each_other(world):
    rules = "groups:\n" + "".join(
        f"- name: g{n}\n  rules:\n  - record: r{n}\n    expr: m + {n}\n" for n in range(12)
    )
    processes = [Process(world, rules, f"p{n}", shards=8, wait_s=60) for n in range(3)]
    for _ in range(40):
        world.now_ms += 1_000
        world.produce("m", 1.0, host="a")
        world.ingest(world.now_ms - 1_000)
        for process in processes:
            process.tick()
    held = [process.runner.claims.mine() for process in processes]
    assert sorted(shard for one in held for shard in one) == list(range(8))
    assert all(held)

    killed_ms = world.now_ms
    for _ in range(30):
        world.now_ms += 1_000
        world.produce("m", 1.0, host="a")
        world.ingest(world.now_ms - 1_000)
        for process in processes[:2]:
            process.tick()
        if sum(len(p.runner.claims.mine()) for p in processes[:2]) == 8:
            break
    assert world.now_ms - killed_ms <= 10_000  # two intervals

    processes[2].tick()  # the third was only suspended
    assert not processes[2].kept & held[2]  # others know what has ended since
    for _ in range(20):
        world.now_ms += 1_000
        world.produce("m", 1.0, host="a")
        world.ingest(world.now_ms - 1_000)
        for process in processes:
            process.tick()
    world.ingest()
    last = (world.now_ms - START_MS) // 1000 - 1
    for n in range(12):
        points = world.samples(f"r{n}")[(("host", "a"),)]
        assert list(points) == [float(s) for s in range(5, last + 1, 5)], n
        assert set(points.values()) == {1.0 + n}


def test_a_claim_is_open_in_the_shards_of_its_slots_alone(world):
    rules = "groups: [{name: g, rules: [{record: r, expr: m}]}]"
    first = Process(world, rules, "p0", shards=8, wait_s=60)
    first.sender.holding = True  # Kafka acknowledges nothing
    for _ in range(12):
        world.now_ms += 1_000
        world.produce("m", 1.0, host="a")
        world.ingest(world.now_ms - 1_000)
        first.tick()

    claims = ClaimLog(
        world.store, 8, "p1", lease_s=10, monotonic_s=lambda: 0.0, now_ms=lambda: world.now_ms
    )

    (run,) = first.runner.groups
    open_in = {number for number, shard in claims.shards.items() if shard.open}
    assert open_in == {shard_of(run.group.key, 8)}


def test_a_process_that_waits_for_the_tables_keeps_what_it_has_taken(world, monkeypatch):
    rules = "groups:\n" + "".join(
        f"- name: g{n}\n  rules:\n  - record: r{n}\n    expr: m + {n}\n" for n in range(4)
    )

    def pass_time(seconds: int, *living: Process) -> list[tuple[str, ...]]:
        """Who holds each shard, every two seconds."""
        owners = []
        for _ in range(seconds // 2):
            world.now_ms += 2_000
            world.produce("m", 1.0, host="a")
            world.ingest(world.now_ms - 1_000)
            for process in living:
                process.tick()
            shards = living[0].runner.claims.shards
            owners.append(tuple(shards[n].by for n in sorted(shards)))
        return owners

    pass_time(10, Process(world, rules, "p0", shards=4))
    after = [Process(world, rules, name, shards=4) for name in ("p1", "p2")]
    # Ingest is further behind than a lease.
    monkeypatch.setattr(Runner, "_has_what_was_written", lambda *_: False)
    owners = pass_time(40, *after)
    monkeypatch.undo()
    pass_time(10, *after)

    assert len(set(owners[-10:])) == 1
    assert set(owners[-1]) <= {"p1", "p2"}
    world.ingest()
    assert all(max(world.samples(f"r{n}")[(("host", "a"),)]) >= 50 for n in range(4))


def test_what_is_over_by_a_later_slot_is_not_told_as_firing(world):
    rules = "groups: [{name: g, rules: [{alert: High, expr: m > 5}]}]"
    process = Process(world, rules, "p0", wait_s=600)
    live(world, process, 20)  # m is 7: High fires
    process.close()
    told = len(world.told)
    for value in (1, 1, 8, 1):
        world.now_ms += 5_000
        world.produce("m", value, host="a")
    world.now_ms += 1_000
    world.ingest(world.now_ms)

    after = Process(world, rules, "p1", gone={"p0"}.__contains__, wait_s=600)
    after.tick()

    late = world.told[told:]
    assert late
    assert all(ends_ms <= at_ms for at_ms, _, _, ends_ms in late), "it is over"


def test_missed_slots_are_made_up_for_and_marked_late(world):
    process = Process(world, RULES, "p0", wait_s=8)
    live(world, process, 20)
    process.close()

    for _ in range(12):  # nobody evaluates for a minute
        world.now_ms += 5_000
        world.produce("m", value_at((world.now_ms - START_MS) // 1000), host="a")
    world.now_ms += 3_000
    world.ingest(world.now_ms)
    after = Process(world, RULES, "p1", gone={"p0"}.__contains__, wait_s=8)
    after.tick()
    world.ingest(world.now_ms + 1_000)

    assert list(world.samples("twice")[(("host", "a"),)]) == [float(s) for s in range(5, 85, 5)]
    assert {c[4] for c in world.changes() if 20 < c[0] < 65} == {True}
    assert after.count("late") > 0
    assert after.count("skipped") == 0


def test_what_fires_is_told_as_firing_however_late_it_is_found(world):
    process = Process(world, RULES, wait_s=2_000)
    live(world, process, 15)
    for _ in range(120):  # the tables stand still for ten minutes
        world.now_ms += 5_000
        world.produce("m", 8, host="a")
    world.ingest(world.now_ms)
    told = len(world.told)
    process.tick()

    first = {}
    for at_ms, labels, _, ends_ms in world.told[told:]:
        first.setdefault(labels["alertname"], (at_ms, ends_ms))
    at_ms, ends_ms = first["High"]
    assert (at_ms, ends_ms - at_ms) == (world.now_ms, 4 * 60_000)


def test_what_is_too_old_is_skipped_and_counted_and_what_fires_goes_on(world):
    rules = "groups: [{name: g, rules: [{alert: Up, expr: m > 0, for: 10s}]}]"
    process = Process(world, rules, "p0")
    live(world, process, 30)
    process.close()

    world.now_ms += 600_000
    world.produce("m", 1.0, host="a")
    world.ingest(world.now_ms)
    after = Process(world, rules, "p1", gone={"p0"}.__contains__, catch_up_s=0)
    after.tick()

    assert after.count("skipped") >= 118
    assert [c[1] for c in world.changes()] == ["pending", "firing"]
    assert [a.state.text for run in after.runner.groups for a in run.rules[0].alerts.values()] == [
        "firing"
    ]


def test_other_rules_take_the_place_of_the_old_ones_and_what_is_gone_ends(world):
    process = Process(world, RULES)
    live(world, process, 25)
    process.load(
        "groups: [{name: g, rules: [{record: twice, expr: m * 2},"
        " {alert: High, expr: twice > 10, for: 10s, labels: {team: a}}]}]"
    )
    live(world, process, 15)
    world.ingest()

    ends = [v for points in world.samples("older").values() for v in points.values()]
    assert ends[-1] is None
    assert None not in world.samples("twice")[(("host", "a"),)].values()
    assert states(world)[-1][1:] == ("resolved", "High")


def test_memory_is_given_back_once_the_tables_have_what_was_written(world):
    process = Process(world, RULES)
    sizes = []
    for _ in range(40):
        live(world, process, 5)
        sizes.append(process.runner._written.size)

    assert max(sizes) < 100


def test_what_is_acknowledged_while_a_claim_is_committed_is_noted_by_the_next(world):
    process = Process(world, RULES, wait_s=60)
    process.sender.holding = True

    def fault(point: str) -> None:
        if point == "before claim":
            process.sender.release()

    process.runner.claims.fault = fault
    live(world, process, 60)
    process.sender.holding = False
    live(world, process, 10)

    assert states(world) == oracle(70)[0]


def test_what_kafka_has_not_acknowledged_is_evaluated_again_by_the_next(world):
    process = Process(world, RULES, "p0", wait_s=60)
    live(world, process, 10)
    process.sender.holding = True
    live(world, process, 20)
    assert (20.0, "firing", "High") not in states(world)
    process.close()

    after = Process(world, RULES, "p1", gone={"p0"}.__contains__, wait_s=60)
    live(world, after, 10)
    world.ingest()

    assert states(world) == oracle(40)[0]
    assert world.samples("twice") == oracle(40)[1]
    assert after.count("repeated") >= 4


@pytest.mark.parametrize("away", ["kafka", "tables", "disk of the tables"])
def test_five_minutes_without_a_neighbour_give_the_same_later(world, away):
    process = Process(world, RULES, wait_s=600, interval_s=15)
    live(world, process, 60, every_s=15)
    before, events = states(world), len(world.events)

    def fault(point: str) -> None:
        if point.startswith("before"):
            raise OSError(errno.EIO if away == "tables" else errno.ENOSPC, point)

    process.sender.holding = away == "kafka"
    if away != "kafka":
        process.runner.claims.fault = fault
    failed = 0
    for _ in range(20):
        world.now_ms += 15_000
        world.produce("m", value_at((world.now_ms - START_MS) // 1000), host="a")
        if away == "disk of the tables":  # there is room for what others write
            world.ingest(world.now_ms - 1_000)
        try:
            process.tick()
        except OSError:  # as the service does
            failed += 1
            process.runner.unload()
    assert failed == (0 if away == "kafka" else 20)
    assert (states(world), len(world.events)) == (before, events)

    process.sender.holding = False
    process.runner.claims.fault = lambda _point: None
    world.ingest(world.now_ms)
    process.tick()
    live(world, process, 60, every_s=15)
    world.ingest()

    expected = oracle(420, 15)
    assert len(expected[0]) > len(before) + 4
    assert states(world) == expected[0]
    assert world.samples("twice") == expected[1]
    assert world.samples("slow:m") == expected[2]
    assert len({e["event_id"] for e in world.events}) == len(expected[0])
    assert process.count("skipped") == 0


def test_files_of_changes_are_merged_and_the_next_process_goes_on_with_them(world):
    process = Process(world, RULES, "p0", wait_s=60)
    live(world, process, 60)
    process.close()
    before = world.changes()
    files = len(snapshot(world.store, "alerts").files)

    later_ms = START_MS + 400 * 86_400_000  # the month has closed
    for merge in due_merges(snapshot(world.store, "alerts"), later_ms):
        merge_files(world.store, merge)
    after = Process(world, RULES, "p1", gone={"p0"}.__contains__, wait_s=60)
    assert len(snapshot(world.store, "alerts").files) < files
    assert world.changes() == before
    live(world, after, 60)
    world.ingest()

    assert states(world) == oracle(120)[0]
