"""jobs/rollup.py under spark-submit: the process that a supervisor signals is the JVM."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.unit.rollups.simulation import START, Simulation
from varve.model.resources import jars_dir
from varve.model.window import MINUTE_MS
from varve.storage.table import create_tables

pytestmark = pytest.mark.spark

ROOT = Path(__file__).parents[3]
DEADLINE_S = 180


class Jobs:
    """Jobs over one home; each is a group of processes whose leader is the JVM."""

    def __init__(self, home: Path) -> None:
        self.home, self.processes = home, []
        jars = sorted(str(jar) for jar in jars_dir("spark").glob("*.jar"))
        self._command = [
            str(Path(sys.executable).with_name("spark-submit")),
            *("--master", "local[1]", "--driver-memory", "512m"),
            *("--conf", "spark.driver.host=127.0.0.1"),
            *("--conf", "spark.driver.bindAddress=127.0.0.1"),
            *("--jars", ",".join(jars)),
            str(ROOT / "jobs" / "rollup.py"),
        ]
        self._environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PYSPARK_PYTHON": sys.executable,
            "PYSPARK_DRIVER_PYTHON": sys.executable,
            "SPARK_LOCAL_IP": "127.0.0.1",
            "VARVE_HOME": str(home),
            "VARVE_ROLLUP__TRIGGER_S": "1",
            "VARVE_ROLLUP__REPAIR_EVERY_S": "0",
        }

    def start(self, **settings: str) -> subprocess.Popen[bytes]:
        with self.log(len(self.processes)).open("wb") as log:
            self.processes.append(
                subprocess.Popen(
                    self._command,
                    env=self._environment | settings,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return self.processes[-1]

    def log(self, number: int) -> Path:
        return self.home / f"job-{number}.log"

    def await_(self, condition, number: int = 0):
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            tail = self.log(number).read_text()[-3_000:]
            assert self.processes[number].poll() is None, tail
            assert time.monotonic() < deadline, tail
            time.sleep(0.2)
        return found

    def end(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


@pytest.fixture
def jobs(tmp_path):
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.end()


def test_sigterm_to_the_jvm_ends_the_job_in_order_with_0(jobs):
    simulation = Simulation(jobs.home / "tables")
    create_tables(simulation.store)
    simulation.put([(1, START + 10_000 * k, 1.0) for k in range(60)])
    simulation.advance(11 * MINUTE_MS)
    simulation._position("complete:critical", simulation.input_ms)
    job = jobs.start()
    jobs.await_(lambda: simulation.frontier("5m") == START + 10 * MINUTE_MS)

    job.send_signal(signal.SIGTERM)

    assert job.wait(60) == 0
    said = jobs.log(0).read_text()
    # That Spark interrupts the stream it stops is a warning of Hadoop's, now and then.
    assert re.search(r"Traceback|NullPointerException| ERROR ", said) is None, said
    assert simulation.verify().differences == []
