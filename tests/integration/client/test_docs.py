"""The examples of docs/client.md do what they say."""

import re
from pathlib import Path

import pytest
from kafka import KafkaAdminClient

from varve.kafka.topics import TopicPlan, ensure_topics

TEXT = (Path(__file__).parents[3] / "docs" / "client.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)

pytestmark = pytest.mark.kafka


@pytest.mark.parametrize("example", EXAMPLES, ids=range(len(EXAMPLES)))
def test_an_example_of_the_document_runs(kafka_broker, example):
    admin = KafkaAdminClient(bootstrap_servers=kafka_broker.bootstrap_servers)
    ensure_topics(admin, [TopicPlan("raw-metrics", 2)])
    admin.close()

    names = {}
    exec(example.replace("localhost:9092", kafka_broker.bootstrap_servers), names)

    # Every example ends with its producer closed or its figures asserted.
    assert "varve.client" in example
    if "producer" in names:
        counts = names["producer"].counts()
        assert counts.acknowledged > 0
        assert (counts.lost, counts.waiting) == (0, 0)
