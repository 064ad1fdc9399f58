"""From minutes to episodes over real tables: once each, whatever dies, comes late or is away."""

import json
import time

import jsonschema
import numpy as np
import pytest

from tests.tables import WrittenTables
from varve.anomaly import detector as module
from varve.anomaly.baseline_job import Baselines, newest_rows
from varve.anomaly.detector import Detector
from varve.anomaly.episode_rows import newest_episodes
from varve.anomaly.judge import judge
from varve.anomaly.rules import Rules, parse
from varve.maintenance import vacuum
from varve.maintenance.batch_job import execute
from varve.model.clock import ManualClock
from varve.model.errors import TemporaryError
from varve.model.identity import define
from varve.model.resources import schemas_dir
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot

BEGIN = 1_795_392_000_000
MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
NOW = BEGIN + 2 * DAY
LOAD = define("load", {"job": "web", "host": "a"}, metric_type="gauge")
DONE = define("jobs_total", {"job": "web", "host": "a"}, metric_type="counter")
CALM = define("calm", {"job": "web"}, metric_type="gauge")
SERIES = (LOAD, DONE, CALM)
WIRE = {
    name: json.loads((schemas_dir() / "wire" / f"{name}.schema.json").read_text())
    for name in ("anomaly-event", "alert-event")
}
RULES = Rules()


class Topics:
    """Both topics; either may be away, after some messages or before."""

    def __init__(self):
        self.anomalies, self.alerts, self.is_away = [], [], False

    def send(self, messages):
        for key, value in messages:
            message = json.loads(value)
            jsonschema.validate(message, WIRE["anomaly-event"])
            assert key.decode() in (message["episode_id"], message["group_id"])
            self.anomalies.append(message)
        if self.is_away:
            raise TemporaryError("no Kafka here")

    def send_alerts(self, events):
        for event in events:
            message = json.loads(event.message())
            jsonschema.validate(message, WIRE["alert-event"])
            self.alerts.append(message)


class Home:
    def __init__(self, root):
        self.tables = WrittenTables(root)
        self.store = self.tables.store
        self.tables.define(SERIES)
        self.clock = ManualClock(NOW)
        self.topics = Topics()
        self.rules = RULES
        self.detector = self.start()
        random = np.random.default_rng(5)
        rows = []
        for minute in range(1, 2 * 24 * 60 + 1):
            ts = BEGIN + minute * MINUTE - 1_000
            rows += [
                (LOAD.series_id, ts, float(10 + random.normal())),
                (DONE.series_id, ts, float(minute * 60)),
                (CALM.series_id, ts, 5.0),
            ]
        self.close(rows, 0)

    def start(self):
        return Detector(
            self.store, lambda: self.rules, lambda tasks: [judge(t) for t in tasks], self.clock
        )

    def close(self, rows, minute):
        """Stores samples and closes minutes up to one after NOW."""
        self.tables.put(rows, complete_ms=NOW + minute * MINUTE)
        self.tables.roll_up()
        self.clock.at_ms = max(self.clock.at_ms, NOW + minute * MINUTE)

    def baselines(self):
        execute(Baselines(self.store), self.store, 0)

    def live(self, minute, load=10.0, jobs=60.0):
        """One minute after NOW."""
        ts = NOW + minute * MINUTE - 1_000
        total = 2 * 24 * 60 * 60.0 + minute * jobs
        self.close(
            [(LOAD.series_id, ts, load), (DONE.series_id, ts, total), (CALM.series_id, ts, 5.0)],
            minute,
        )

    def look(self):
        while self.detector.step() is not None:
            pass
        self.detector.tell(self.topics.send, self.topics.send_alerts)

    def late(self, minutes, value):
        """A second sample in closed minutes, which makes their mean 10 if load was 30."""
        self.tables.put([(LOAD.series_id, NOW + n * MINUTE - 500, value) for n in minutes])
        self.tables.roll_up()

    def told(self):
        return [(m["event"], m["series"][0]["metric"]) for m in self.topics.anomalies]

    def episodes(self):
        rows = newest_episodes(snapshot(self.store, "episodes"))
        return [(r["state"], (r["starts_at"] - NOW) // MINUTE, r["windows"]) for r in rows]

    def deviations(self):
        rows = newest_rows(snapshot(self.store, "anomalies").scan(Bounds(NOW)))
        return rows.filter(rows["is_deviation"]).to_pylist()


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    """A home with two days of history and its baselines; each test takes a copy."""
    root = tmp_path_factory.mktemp("home") / "tables"
    home = Home(str(root))
    home.baselines()
    home.look()
    assert home.told() == []
    return root


@pytest.fixture
def home(fresh, tmp_path, monkeypatch):
    import shutil

    shutil.copytree(fresh, tmp_path / "tables")
    made = object.__new__(Home)
    made.tables = object.__new__(WrittenTables)
    from varve.storage.store import Store

    made.store = made.tables.store = Store(str(tmp_path / "tables"))
    made.clock, made.topics, made.rules = ManualClock(NOW), Topics(), RULES
    made.detector = made.start()
    return made


def test_an_incident_is_one_episode_on_both_topics_and_in_the_table(home):
    for minute in range(1, 30):
        home.live(minute, load=16.0 if 5 <= minute < 12 else 10.0)
        home.look()

    assert home.told() == [("open", "load"), ("close", "load")]
    opened, closed = home.topics.anomalies
    assert opened["decided_at"] == NOW + 7 * MINUTE
    assert closed["starts_at"] == NOW + 5 * MINUTE
    assert closed["ends_at"] == NOW + 11 * MINUTE
    assert closed["series"][0]["expected"] == pytest.approx(10, abs=0.2)
    assert [(a["state"], a["rule"]) for a in home.topics.alerts] == [
        ("firing", "SeriesDeviates"),
        ("resolved", "SeriesDeviates"),
    ]
    assert home.topics.alerts[0]["fingerprint"] == home.topics.alerts[1]["fingerprint"]
    assert home.episodes() == [("closed", 5, 7)]
    rows = home.deviations()
    assert [(row["window_end"] - NOW) // MINUTE for row in rows] == list(range(5, 12))
    assert all(row["score"] == (row["value"] - row["expected"]) / row["stddev"] for row in rows)


def test_one_extreme_minute_is_critical_and_told_at_once(home):
    home.live(1, load=30.0)
    home.look()
    assert home.told() == [("open", "load")]
    assert home.topics.anomalies[0]["severity"] == "critical"


def test_a_counter_is_judged_by_its_rate_and_a_constant_by_its_floor(home):
    home.live(1, jobs=60.0)
    home.look()
    assert home.told() == []
    ts = NOW + 2 * MINUTE - 1_000
    home.close([(DONE.series_id, ts, 1e9), (CALM.series_id, ts, 6.0)], 2)
    home.look()
    assert sorted(home.told()) == [("open", "calm"), ("open", "jobs_total")]


def test_a_repair_withdraws_an_episode_that_it_leaves_nothing_of(home):
    for minute in range(1, 6):
        home.live(minute, load=30.0 if minute == 3 else 10.0)
        home.look()
    assert home.episodes() == [("open", 3, 1)]

    home.late([3], -10.0)
    home.look()

    assert home.told() == [("open", "load"), ("withdraw", "load")]
    assert [a["state"] for a in home.topics.alerts] == ["firing", "resolved"]
    assert home.topics.anomalies[0]["episode_id"] == home.topics.anomalies[1]["episode_id"]
    assert home.episodes() == [("withdrawn", 3, 0)]
    assert home.deviations() == []
    home.live(6)
    home.look()
    assert len(home.topics.anomalies) == 2


def test_a_repair_restates_an_episode_under_its_identity(home):
    for minute in range(1, 25):
        home.live(minute, load=30.0 if 3 <= minute < 8 else 10.0)
        home.look()
    home.late([3, 4], -10.0)
    home.look()

    assert home.told() == [("open", "load"), ("close", "load"), ("restate", "load")]
    assert len({m["episode_id"] for m in home.topics.anomalies}) == 1
    assert home.episodes() == [("closed", 5, 3)]


def test_a_late_sample_opens_an_episode_that_nobody_saw(home):
    for minute in range(1, 25):
        home.live(minute)
        home.look()
    home.late([5, 6, 7], 50.0)
    home.look()
    assert home.told() == [("open", "load"), ("close", "load")]
    assert home.episodes() == [("closed", 5, 3)]


def test_while_topics_are_away_minutes_are_judged_and_events_are_told_later_once_each(home):
    home.topics.is_away = True
    for minute in range(1, 4):
        home.live(minute, load=30.0)
        while home.detector.step() is not None:
            pass
        with pytest.raises(TemporaryError):
            home.detector.tell(home.topics.send, home.topics.send_alerts)
    home.topics.is_away = False
    first = {m["event_id"] for m in home.topics.anomalies}
    home.topics.anomalies.clear()
    home.look()
    assert {m["event_id"] for m in home.topics.anomalies} == first
    assert home.detector.tell(home.topics.send, home.topics.send_alerts) == 0


@pytest.mark.parametrize("place", ["anomalies", "episodes", "told"])
def test_a_crash_before_any_commit_loses_and_doubles_nothing(home, monkeypatch, place):
    for minute in range(1, 4):
        home.live(minute, load=16.0)
    real, died = module.commit, []

    def dies(table, files, **kwargs):
        at = table.name if files or table.name == "anomalies" else "told"
        if at == place and not died:
            died.append(at)
            raise KeyboardInterrupt
        return real(table, files, **kwargs)

    monkeypatch.setattr(module, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        home.look()
    # A crash is found after a day as well: what is owed is no garbage.
    for name in ("anomalies", "episodes"):
        vacuum.delete(vacuum.find_garbage(home.store, name, time.time_ns() // 10**6 + DAY))
    home.detector = home.start()
    home.look()
    for minute in range(4, 20):
        home.live(minute)
        home.look()

    assert died == [place]
    assert home.episodes() == [("closed", 1, 3)]
    assert len(home.deviations()) == 3
    events = snapshot(home.store, "episodes").scan(Bounds())["event_id"].to_pylist()
    assert len(events) == len(set(events)) == 2
    assert {m["event_id"] for m in home.topics.anomalies} == set(events)


def test_a_restart_in_the_middle_of_anything_changes_nothing(home):
    for minute in range(1, 25):
        home.live(minute, load=16.0 if 5 <= minute < 12 else 10.0)
        home.look()
        home.detector = home.start()
    assert home.told() == [("open", "load"), ("close", "load")]
    assert home.episodes() == [("closed", 5, 7)]


def test_rules_are_taken_up_as_they_change(home):
    home.rules = parse("[rule.load]\nmatch = { __name__ = 'load' }\nenabled = false", "here")
    home.live(1, load=30.0)
    home.look()
    assert home.told() == []
    home.rules = parse("[rule.load]\nmatch = { __name__ = 'load' }\nalert = false", "here")
    home.live(2, load=30.0)
    home.look()
    assert home.told() == [("open", "load")]
    assert home.topics.alerts == []
    assert home.topics.anomalies[0]["rule"] == "load"


def test_what_happened_long_before_the_first_start_is_told_but_is_no_alert(tmp_path):
    home = Home(str(tmp_path / "tables"))
    ts = NOW - 3 * HOUR
    home.tables.put([(LOAD.series_id, ts + n * MINUTE, 400.0) for n in range(3)])
    home.tables.roll_up()
    home.baselines()
    home.look()
    assert home.told() == [("open", "load"), ("close", "load")]
    assert home.topics.alerts == []


def test_silence_is_an_episode_where_a_rule_wants_it_and_late_samples_withdraw_it(home):
    home.rules = parse('[rule.calm]\nmatch = {__name__ = "calm"}\nsilent_minutes = 5\n', "here")
    for minute in range(1, 31):
        ts = NOW + minute * MINUTE - 1_000
        rows = [(LOAD.series_id, ts, 10.0)]  # jobs_total is silent, too, and nobody asked
        if not 10 <= minute < 20:
            rows.append((CALM.series_id, ts, 5.0))
        home.close(rows, minute)
        home.look()

    (told,) = newest_episodes(snapshot(home.store, "episodes"), since_ms=NOW)
    assert (told["series_id"], told["state"], told["windows"]) == (CALM.series_id, "closed", 6)
    # The last number was in minute 9.
    assert [told[name] - NOW for name in ("starts_at", "last_at")] == [14 * MINUTE, 19 * MINUTE]
    assert home.topics.anomalies[0]["series"][0]["value"] is None
    assert home.topics.alerts[0]["value"] is None
    assert "has no samples where 5 is expected" in home.topics.alerts[0]["annotations"]["summary"]

    def after_late(minutes):
        late = [(CALM.series_id, NOW + n * MINUTE - 1_000, 5.0) for n in minutes]
        home.close(late, 30)
        home.look()
        (now,) = newest_episodes(snapshot(home.store, "episodes"), since_ms=NOW)
        assert now["episode_id"] == told["episode_id"]
        return now

    now = after_late(range(10, 13))
    assert (now["state"], now["windows"], now["starts_at"]) == ("closed", 3, NOW + 17 * MINUTE)
    assert after_late([14])["state"] == "withdrawn"
