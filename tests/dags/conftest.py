"""An Airflow of its own environment, on a small home of real tables."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kafka import KafkaAdminClient
from kafka.admin import NewTopic

from tests.tables import WrittenTables

ROOT = Path(__file__).parents[2]
DAGS = ROOT / "airflow" / "dags"
BIN = ROOT / ".venv-airflow" / "bin"
DAY_MS = 86_400_000
BEGIN = 1_609_459_200_000  # 2021-01-01
DAYS = 20
"""Days of samples, one a day; ten more on the last day."""


class Airflow:
    """Runs commands of Airflow's environment. All it has is under `home`."""

    def __init__(self, home: Path, settings: str) -> None:
        self.home = home
        self.dags, self.failing_dags = DAGS, Path(__file__).with_name("failing")
        self._env = _environment().environment(_own_variables(settings), home, 0, "s" * 40)

    def run(self, *command: str, deadline_s: float = 300, **variables: str) -> str:
        done = subprocess.run(
            [BIN / command[0], *command[1:]],
            env=self._env | variables,
            cwd=self.home,
            capture_output=True,
            text=True,
            timeout=deadline_s,
            check=False,
        )
        assert done.returncode == 0, f"{done.stdout[-8000:]}\n{done.stderr[-8000:]}"
        return done.stdout + done.stderr

    def test(self, dag: str, *options: str, **variables: str) -> str:
        """`airflow dags test`: runs all tasks of a DAG; returns what they logged."""
        log = self.run("airflow", "dags", "test", dag, *options, **variables)
        assert "state=success" in log, log[-8000:]
        return log


def _environment():
    spec = importlib.util.spec_from_file_location("environment", ROOT / "airflow/environment.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _own_variables(settings: str) -> dict[str, str]:
    """The jobs run with the code of this checkout."""
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONPATH" and "AIRFLOW" not in k}
    launcher = f"env PYTHONPATH='{ROOT / 'pipelines'}' '{sys.executable}'"
    return kept | {
        "AIRFLOW_VAR_VARVE_LAUNCHER": launcher,
        "AIRFLOW_VAR_VARVE_SETTINGS": settings,
    }


@pytest.fixture(scope="session")
def tables(tmp_path_factory) -> WrittenTables:
    """Twenty days of one series, long ago, rolled up."""
    written = WrittenTables(str(tmp_path_factory.mktemp("airflow home") / "tables"))
    for n in range(DAYS):
        written.put([(1, BEGIN + n * DAY_MS + 1, 1.0)], complete_ms=BEGIN + n * DAY_MS)
    for n in range(10):
        written.put([(1, BEGIN + (DAYS - 1) * DAY_MS + 1_000 * n + 2, 1.0)])
    written.roll_up()
    return written


@pytest.fixture(scope="session")
def airflow(tables, kafka_broker) -> Airflow:
    """With a database of its own and the pools of the project; alerts go to the test's broker."""
    assert BIN.exists(), "run these by `make test-airflow`, which sets Airflow up"
    home = Path(tables.store.root).parent
    config = home / "varve.toml"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka_broker.bootstrap_servers}"\n'
        f'[storage]\ncold_root = "{tables.store.root}-cold"\n'
    )
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.create_topics([NewTopic(name, 1, 1) for name in ("alerts", "raw-metrics")])
    admin.close()
    made = Airflow(home, f"--home '{home}' --config '{config}'")
    made.run("airflow", "db", "migrate")
    made.run("airflow", "pools", "import", str(ROOT / "airflow" / "pools.json"))
    return made


@pytest.fixture(scope="session")
def dags(airflow) -> dict:
    """What Airflow reads from airflow/dags, by DAG."""
    said = airflow.run("python", str(Path(__file__).with_name("describe.py")), str(DAGS))
    found = json.loads(next(line for line in said.splitlines() if line.startswith('{"errors"')))
    assert found["errors"] == {}
    return found["dags"]
