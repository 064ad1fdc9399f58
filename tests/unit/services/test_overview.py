import json
import subprocess
import sys

from varve.local.broker import free_port
from varve.model.clock import ManualClock, SystemClock
from varve.services.overview import overview
from varve.services.status import ComponentStatus
from varve.settings import Settings
from varve.settings.kafka import Kafka
from varve.storage.store import Store
from varve.storage.table import create_tables


def _settings(home):
    return Settings.model_validate({"home": home, "kafka": {"port": free_port()}})


def _states(seen):
    return {c.name: c.state for c in seen.components}


def test_a_home_never_used_is_told_apart_from_one_at_rest(tmp_path):
    seen = overview(_settings(tmp_path / "none"))

    assert seen.components == ()
    assert seen.progress is None
    assert "no table samples" in seen.progress_unknown
    assert seen.lag is None


def test_a_component_whose_process_is_gone_without_a_word_is_dead(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    ComponentStatus(tmp_path, "query", pid=gone.pid).update(state="ready")
    gone.communicate()
    ComponentStatus(tmp_path, "streams").update(state="ready")
    ComponentStatus(tmp_path, "kafka", pid=0).update(state="stopped")

    seen = overview(_settings(tmp_path))

    assert _states(seen) == {"kafka": "stopped", "query": "dead", "streams": "ready"}
    by_name = {c.name: c for c in seen.components}
    assert by_name["query"].pid is None
    assert by_name["streams"].up_ms >= 0


def test_components_come_as_they_were_started_with_their_restarts(tmp_path):
    started = {name: {"restarts": n} for n, name in enumerate(["kafka", "streams", "query"])}
    ComponentStatus(tmp_path, "up").update(state="ready", detail={"components": started})
    for name in ("query", "streams", "kafka"):
        ComponentStatus(tmp_path, name).update(state="ready")

    seen = overview(_settings(tmp_path), ManualClock(0))

    assert [(c.name, c.restarts) for c in seen.components] == [
        ("up", 0),
        ("kafka", 0),
        ("streams", 1),
        ("query", 2),
    ]


def test_an_up_that_runs_and_is_silent_hangs(tmp_path):
    ComponentStatus(tmp_path, "up").update(state="ready")
    ComponentStatus(tmp_path, "query").update(state="ready")

    later = ManualClock(SystemClock().now_ms() + 31_000)

    assert _states(overview(_settings(tmp_path))) == {"up": "ready", "query": "ready"}
    assert _states(overview(_settings(tmp_path), later)) == {"up": "hangs", "query": "ready"}


def test_empty_tables_have_progress_and_a_broker_that_is_away_no_lag(tmp_path):
    settings = _settings(tmp_path)
    create_tables(Store(settings.storage_root()))

    seen = overview(settings)

    assert seen.progress.rows["samples"] == 0
    assert seen.progress.frontier_ms == dict.fromkeys(("1m", "5m", "1h", "1d"))
    assert (seen.progress.newest_ms, seen.progress.rejected) == (None, {})
    assert seen.lag_unknown == "no Kafka: the broker of this home does not run"
    theirs = settings.model_copy(
        update={"kafka": Kafka(bootstrap_servers=f"127.0.0.1:{free_port()}")}
    )
    assert overview(theirs).lag_unknown.startswith("no Kafka at 127.0.0.1:")
    assert json.loads(json.dumps(seen.as_json()))["lag"] is None
