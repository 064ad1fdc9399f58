"""`make dist`, used as on a cluster: from an empty directory, with nothing of the checkout."""

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from deltalake import DeltaTable
from kafka import KafkaAdminClient, KafkaProducer
from kafka.admin import NewTopic

from varve.setup.environment import RUN_LOCK, Environment
from varve.setup.pack import pack
from varve.storage.store import Store
from varve.storage.table import Table

pytestmark = [pytest.mark.slow, pytest.mark.spark, pytest.mark.kafka]

ROOT = Path(__file__).resolve().parents[2]
MASTER = "local-cluster[2,1,1024]"
START_S = 420  # three JVMs, and 250 MB unpacked in each, on two cores
SAMPLES = 600


@pytest.fixture(scope="module")
def dist(tmp_path_factory) -> Path:
    environment = Environment(ROOT)
    if Path(sys.prefix) != environment.folder or environment.missing([RUN_LOCK]):
        pytest.skip("packing needs the environment that `make setup` makes")
    folder = tmp_path_factory.mktemp("packed") / "dist"
    pack(environment, os.environ, folder)
    return folder


@pytest.fixture(scope="module")
def submit_host(dist, tmp_path_factory) -> Path:
    """An empty directory with dist/ and, as `env`, what is in the archive."""
    folder = tmp_path_factory.mktemp("submit host")
    (folder / "dist").symlink_to(dist)
    with tarfile.open(next(dist.glob("varve-env-*.tar.gz"))) as archive:
        archive.extractall(folder / "env", filter="tar")
    return folder


def test_sums_cover_everything_and_are_right(dist):
    sums = dict(
        reversed(line.split("  ", 1)) for line in (dist / "SHA256SUMS").read_text().splitlines()
    )

    files = {str(p.relative_to(dist)): p for p in dist.rglob("*") if p.is_file()}
    assert sums.keys() == files.keys() - {"SHA256SUMS"}
    for name in ("jobs/ingest.py", next(name for name in sums if name.endswith(".whl"))):
        assert hashlib.sha256(files[name].read_bytes()).hexdigest() == sums[name]


def test_the_wheel_carries_schemas_and_default_settings(dist):
    with zipfile.ZipFile(next(dist.glob("*.whl"))) as wheel:
        names = set(wheel.namelist())

    for folder in ("schemas", "conf"):
        shipped = {
            f"varve/_data/{path.relative_to(ROOT)}"
            for path in (ROOT / folder).rglob("*")
            if path.is_file()
        }
        assert shipped <= names


def test_the_environment_runs_where_the_checkout_cannot_be_seen(submit_host):
    program = "import sys, varve, pyarrow, numba; print(sys.prefix, varve.__file__)"

    answer = subprocess.check_output(
        [submit_host / "env" / "bin" / "python", "-c", program],
        cwd=submit_host,
        env={"PATH": "/usr/bin:/bin", "HOME": str(submit_host)},
        text=True,
    )

    assert answer.startswith(f"{submit_host}/env ")
    assert f"{submit_host}/env/lib/python3.11/site-packages/varve/__init__.py" in answer


@contextmanager
def submitted(host: Path, job: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """The job, submitted from `host`. Its output is shown if the test fails."""
    spark_home = Path(sys.prefix) / "lib" / "python3.11" / "site-packages" / "pyspark"
    jars = ",".join(str(jar.relative_to(host)) for jar in sorted(host.glob("dist/jars/*.jar")))
    archive = next(host.glob("dist/varve-env-*.tar.gz")).relative_to(host)
    command = [str(spark_home / "bin" / "spark-submit"), "--master", MASTER]
    command += ["--jars", jars, "--archives", f"{archive}#env"]
    command += ["--conf", "spark.driver.host=127.0.0.1", "--conf", "spark.ui.enabled=false"]
    command += [f"dist/jobs/{job}", *arguments]
    env = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(host),
        "SPARK_HOME": str(spark_home),
        "SPARK_WORKER_DIR": str(host / "work"),
        "SPARK_LOCAL_IP": "127.0.0.1",
        "PYSPARK_PYTHON": "./env/bin/python",
    }
    if "JAVA_HOME" in os.environ:
        env["JAVA_HOME"] = os.environ["JAVA_HOME"]
    log = host / f"{job}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=host,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        yield process
    except BaseException:
        print(log.read_text(errors="replace")[-8_000:])  # noqa: T201 - shown if the test fails
        raise
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(host / "work", ignore_errors=True)


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_S
    while not condition():
        assert process.poll() is None, f"the job ended with {process.returncode}"
        assert time.monotonic() < deadline, "nothing came"
        time.sleep(0.5)


def test_ingest_and_rollup_run_by_spark_submit_from_an_empty_directory(submit_host, kafka_broker):
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    admin.create_topics([NewTopic(name, 2, 1) for name in ("dist-raw", "dist-critical")])
    admin.close()
    minute = int(time.time()) // 60 * 60 - 600
    producer = KafkaProducer(bootstrap_servers=kafka_broker.bootstrap_servers)
    for i in range(SAMPLES):
        sample = {"metric": "packed", "value": i, "timestamp": minute + i / 10}
        producer.send("dist-raw", json.dumps(sample).encode())
    producer.close()
    tables = submit_host / "tables"
    config = submit_host / "varve.toml"
    config.write_text(
        f'[kafka]\nbootstrap_servers = "{kafka_broker.bootstrap_servers}"\n'
        '[kafka.topics]\nraw = "dist-raw"\ncritical = "dist-critical"\n'
        f'[storage]\nroot = "{tables}"\n[telemetry]\nport = 0\n'
    )

    with submitted(submit_host, "ingest.py", "--config", "varve.toml", "--available-now") as ingest:
        assert ingest.wait(START_S) == 0
    samples = DeltaTable(Store(str(tables)).uri("samples")).to_pyarrow_table()
    assert sorted(samples["value"].to_pylist()) == list(range(SAMPLES))

    with submitted(submit_host, "rollup.py", "--config", "varve.toml") as rollup:
        wait_for(
            lambda: (
                (tables / "rollup_1m" / "_delta_log").is_dir()
                and (Table(Store(str(tables)), "rollup_1m").position("frontier:1m") or 0)
                >= (minute + 60) * 1000
            ),
            rollup,
        )
        rollup.terminate()  # ends spark-submit's JVM at once: what is committed must do
        rollup.wait(60)
    rows = DeltaTable(Store(str(tables)).uri("rollup_1m")).to_pyarrow_table().to_pylist()
    assert sum(row["count"] for row in rows) == SAMPLES
    assert {row["window_end"] for row in rows} == {minute * 1000, (minute + 60) * 1000}
