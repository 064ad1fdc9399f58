import json
import os
import signal
import subprocess
import sys
import time

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from varve.kafka.topics import TopicPlan, ensure_topics
from varve.services.status import read_status

pytestmark = pytest.mark.kafka


def _await(condition, seconds=60):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "the deadline passed"
        time.sleep(0.05)


def test_the_service_measures_until_told_to_stop_and_marks_the_end(kafka_broker, tmp_path):
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan("host", 2)])
    admin.close()
    service = subprocess.Popen(
        [sys.executable, "-m", "varve.cli", "serve", "collector", "--home", str(tmp_path)],
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
            "VARVE_KAFKA__BOOTSTRAP_SERVERS": kafka_broker.bootstrap_servers,
            "VARVE_KAFKA__TOPICS__RAW": "host",
            "VARVE_COLLECTOR__INTERVAL_S": "0.2",
        },
    )
    try:
        _await(lambda: (r := read_status(tmp_path).get("collector")) and r.detail.get("samples"))
        assert read_status(tmp_path)["collector"].state == "ready"
        service.send_signal(signal.SIGTERM)
        assert service.wait(20) == 0
    finally:
        service.kill()
    record = read_status(tmp_path)["collector"]
    assert (record.state, record.detail["lost"]) == ("stopped", 0)

    consumer = KafkaConsumer(bootstrap_servers=kafka_broker.bootstrap_servers)
    partitions = [TopicPartition("host", p) for p in (0, 1)]
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    ends = consumer.end_offsets(partitions)
    samples = []
    while any(consumer.position(p) < ends[p] for p in partitions):
        for messages in consumer.poll(1_000).values():
            samples += [r for m in messages for r in json.loads(m.value)]
    consumer.close()
    assert len(samples) == record.detail["samples"]
    last = {}
    for sample in sorted(samples, key=lambda s: s["timestamp"]):
        last[sample["metric"], str(sample["tags"])] = sample["value"]
    assert set(last.values()) == {None}
