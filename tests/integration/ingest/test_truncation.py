"""Kafka that goes back: a broker loses the end of its log and gives the offsets again."""

import shutil

import pytest
from kafka import KafkaAdminClient, KafkaProducer

from tests.integration.ingest.test_ingest import await_that
from tests.integration.ingest.test_offsets import OneTopic
from varve.kafka.client_options import Cluster
from varve.kafka.offsets import TopicOffsets
from varve.local.broker import Broker
from varve.model.errors import NeedsOperator, TemporaryError, VarveError

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


class OwnBroker(OneTopic):
    """A line with a broker of its own, whose log can be put back to an earlier state."""

    def __init__(self, spark, broker, folder):
        super().__init__(spark, broker, folder / "the tables")
        self.kept = folder / "kept"

    @property
    def log_folder(self):
        (found,) = self.broker.config.directory.rglob(f"{self.topic}-0")
        return found

    def restart(self, change=lambda: None):
        self.producer.close()
        self.admin.close()
        self.broker.stop()
        change()
        self.broker.start()
        self.admin = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        self.producer = KafkaProducer(bootstrap_servers=self.broker.bootstrap_servers)
        names = [self.topic, self.definitions]
        topics = TopicOffsets(Cluster(self.broker.bootstrap_servers), names)
        await_that(lambda: self._answers_for_all(topics))
        topics.close()

    def _answers_for_all(self, topics):
        try:
            return len(topics.latest(topics.partitions())) == 2
        except VarveError:
            # It answers before it leads all partitions again, one after the other.
            return False

    def keep_log(self):
        self.restart(lambda: shutil.copytree(self.log_folder, self.kept))

    def put_log_back(self):
        def put_back():
            folder = self.log_folder
            shutil.rmtree(folder)
            shutil.copytree(self.kept, folder)

        self.restart(put_back)

    def send_many(self, count):
        for _ in range(count):
            self.producer.send(self.topic, self.next_value(), partition=0)
        self.producer.flush()


@pytest.fixture
def line(spark, tmp_path):
    with Broker(tmp_path / "kafka") as broker:
        line = OwnBroker(spark, broker, tmp_path)
        yield line
        line.close()


def test_a_log_that_was_cut_and_written_on_is_refused_with_the_offset_or_read_again(line):
    line.send_many(900)
    line.keep_log()
    line.send_many(100)
    line.drain()
    assert len(line.values()) == 1_000
    line.put_log_back()
    line.send_many(50)
    with pytest.raises(NeedsOperator, match="was cut at offset 900, but samples were stored up to"):
        line.start()
    with pytest.raises(TemporaryError, match="grown past 1000"):
        line.start(on_truncation="reread")
    line.send_many(150)

    with pytest.raises(NeedsOperator) as caught:
        line.start()

    assert f"{line.topic}-0" in str(caught.value)
    assert "kafka.on_truncation" in str(caught.value)
    line.drain(on_truncation="reread")
    # What the broker has lost was stored before; what came at its offsets is, too, and once.
    assert line.values() == list(range(1_200))
    # And all is well again.
    line.send_many(1)
    line.drain()
    assert line.values() == list(range(1_201))


def test_a_broker_that_only_restarted_has_lost_nothing(line):
    line.send_many(10)
    line.drain()
    for _ in range(2):
        line.restart()
        line.send_many(10)
        line.drain()

    line.send_many(3)
    query = line.start()
    await_that(lambda: query.raise_failure() or len(line.values()) == 33)
    assert line.values() == list(range(33))
