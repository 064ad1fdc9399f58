"""jobs/ingest.py as a process: what it says on its page and in its log, and how it ends."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from varve.collectors.pages import fetch, parse
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.local.broker import free_port
from varve.model.clock import SystemClock
from varve.model.resources import jars_dir
from varve.storage.store import Store
from varve.storage.table import Table

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

JOB = Path(__file__).parents[3] / "jobs" / "ingest.py"
DEADLINE_S = 240


class Job:
    """The job against a topic and tables of its own."""

    def __init__(self, broker, folder):
        self.topic, self.folder = f"job-{uuid.uuid4().hex[:8]}", folder
        admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
        ensure_topics(admin, [TopicPlan(self.topic, 2)])
        admin.close()
        self.producer = KafkaProducer(bootstrap_servers=broker.bootstrap_servers)
        self.log = folder / "job.log"
        self.port = free_port()
        self.environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "PYSPARK_SUBMIT_ARGS": _submit_arguments(),
            "SPARK_LOCAL_IP": "127.0.0.1",
            "VARVE_HOME": str(folder),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": broker.bootstrap_servers,
            "VARVE_KAFKA__TOPICS__RAW": self.topic,
            "VARVE_TELEMETRY__PORT": str(self.port),
            "VARVE_LOGS__FORMAT": "json",
            "VARVE_STORAGE__OPTIONS__AWS_SECRET_ACCESS_KEY": "hush-hush",
        }
        self.process = None

    def send(self, *values):
        for number, value in enumerate(values):
            self.producer.send(self.topic, value, partition=number % 2).get(timeout=60)

    def start(self, *arguments):
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(JOB), "--query", "bulk", *arguments],
                env=self.environment,
                stdout=log,
                stderr=log,
            )

    def page(self):
        """Values by (name, sorted labels); empty while there is no page."""
        try:
            page = fetch(f"http://127.0.0.1:{self.port}/metrics", 10)
        except OSError:
            return {}
        return {(r.family.metric, *sorted(r.labels.items())): r.value for r in parse(*page)}

    def until(self, condition):
        deadline = time.monotonic() + DEADLINE_S
        while not (found := condition()):
            assert time.monotonic() < deadline, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.2)
        return found

    def lines(self):
        """What our own code has logged."""
        return [json.loads(line) for line in self.log.read_text().splitlines() if line[0:1] == "{"]

    def end(self):
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.producer.close()


def _submit_arguments():
    jars = ",".join(str(jar) for jar in sorted(jars_dir("spark").glob("*.jar")))
    conf = "--conf spark.driver.host=127.0.0.1 --conf spark.driver.bindAddress=127.0.0.1"
    return f"--master local[2] --driver-memory 512m {conf} --jars {shlex.quote(jars)} pyspark-shell"


@pytest.fixture
def job(kafka_broker, tmp_path):
    job = Job(kafka_broker, tmp_path)
    yield job
    job.end()


def _sample(ts, metric="requests"):
    return {"metric": metric, "value": 1.0, "timestamp": ts, "tags": {}}


def test_what_goes_in_is_on_the_page_and_in_the_log_and_sigterm_ends_it_in_order(job):
    now_ms = SystemClock().now_ms()
    values = (json.dumps([_sample(now_ms), _sample(now_ms), _sample(now_ms - 1)]), "garbage")
    job.send(*(value.encode() for value in values))
    job.start()
    query = ("query", "bulk")
    job.until(lambda: job.page().get(("varve_ingest_samples_total", query)) == 4)

    # The next batch is counted on top, and nothing waits once it is stored.
    job.send(json.dumps(_sample(now_ms + 1)).encode())
    page = job.until(
        lambda: (
            (found := job.page()).get(("varve_ingest_samples_total", query)) == 5
            and found.get(("varve_ingest_unread_age_seconds", query)) == 0
            and ("varve_table_rows", ("table", "samples")) in found
            and found
        )
    )
    parts = {
        part: sum(v for k, v in page.items() if k[0] == f"varve_ingest_{part}_samples_total")
        for part in ("stored", "merged", "rejected")
    }
    assert parts == {"stored": 3, "merged": 1, "rejected": 1}
    assert page["varve_ingest_rejected_samples_total", query, ("reason", "malformed")] == 1
    assert page["varve_ingest_read_bytes_total", query] > sum(map(len, values))
    assert page["varve_ingest_batch_duration_seconds_count", query] >= 2
    assert page["varve_stream_running", ("stream", "ingest-bulk")] == 1
    assert (
        page["varve_stream_phase_seconds_total", ("phase", "walCommit"), ("stream", "ingest-bulk")]
        > 0
    )
    assert page["varve_process_resident_memory_bytes", ("part", "jvm")] > 100e6
    assert page["varve_process_cpu_seconds_total", ("part", "workers")] > 0

    job.process.send_signal(signal.SIGTERM)

    assert job.process.wait(60) == 0, job.log.read_text()
    stored = Table(Store(str(job.folder / "tables")), "samples")
    assert sum(file.rows for file in stored.live_files().values()) == 3
    batches = [line for line in job.lines() if line["message"] == "batch"]
    assert sum(batch["in"] for batch in batches) == 5
    assert all(
        batch["logger"] == "varve.spark.ingest" and batch["commit_s"] > 0 for batch in batches
    )
    assert "hush" not in job.log.read_text()
    traceback = re.search(r"^(Traceback|\w*Error).*", job.log.read_text(), re.MULTILINE)
    assert traceback is None, job.log.read_text()


def test_available_now_drains_and_ends(job):
    now_ms = SystemClock().now_ms()
    job.send(*(json.dumps(_sample(now_ms + n)).encode() for n in range(20)))

    sent_ms = SystemClock().now_ms()
    job.start("--available-now")

    assert job.process.wait(DEADLINE_S) == 0, job.log.read_text()
    stored = Table(Store(str(job.folder / "tables")), "samples")
    assert sum(file.rows for file in stored.live_files().values()) == 20
    # Or no window of them would ever close.
    assert stored.position("complete:bulk") >= sent_ms
