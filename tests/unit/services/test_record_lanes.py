"""Lanes of histograms and exemplars open when their topics are there."""

import asyncio

from varve.gateway.topic_producer import KnownPartitions
from varve.model.errors import TemporaryError
from varve.services.record_lanes import RecordLanes

TOPICS = {"histograms": "raw-histograms", "exemplars": "raw-exemplars"}


class Broker:
    """Topics with their partitions; away while there are none."""

    def __init__(self, **partitions):
        self.partitions = {f"raw-{name}": count for name, count in partitions.items()}
        self.is_away = False


class Producer:
    def __init__(self, broker, topic):
        self._broker, self.topic = broker, topic
        self.partitions = 0

    def connect(self):
        if self._broker.is_away:
            raise TemporaryError("no Kafka")
        if self.topic not in self._broker.partitions:
            raise TemporaryError(f"there is no topic {self.topic}: create it")
        self.look()

    def look(self):
        self.partitions = max(self.partitions, self._broker.partitions.get(self.topic, 0))
        return self.partitions


class Records:
    """What a RecordBatcher is told."""

    def __init__(self):
        self.roads, self.why_not, self.forgotten = {}, {}, []

    def open(self, table, road):
        self.roads[table] = road

    def without(self, table, why):
        self.why_not[table] = why

    def forget_told(self, table):
        self.forgotten.append(table)


class Deployment:
    def __init__(self, broker, folder):
        self.records, self.lanes = Records(), {}
        self._work = RecordLanes(
            TOPICS,
            KnownPartitions(folder / "partitions.json"),
            self.records,
            lambda topic: Producer(broker, topic),
            lambda table, producer: (table, producer.topic),
            self.lanes,
        )

    def look(self):
        asyncio.run(self._work.open())
        return {table: road.partitions for table, road in self.records.roads.items()}


def test_a_topic_that_is_missing_is_named_and_found_later(tmp_path):
    broker = Broker(histograms=4)
    d = Deployment(broker, tmp_path)

    assert d.look() == {"histograms": 4}
    assert "there is no topic raw-exemplars" in d.records.why_not["exemplars"]
    broker.partitions["raw-exemplars"] = 2
    assert d.look() == {"histograms": 4, "exemplars": 2}
    assert d.lanes == {table: (table, topic) for table, topic in TOPICS.items()}


def test_partitions_that_are_added_are_used_and_series_defined_again(tmp_path):
    broker = Broker(histograms=4, exemplars=2)
    d = Deployment(broker, tmp_path)
    d.look()

    broker.partitions["raw-histograms"] = 6

    assert d.look() == {"histograms": 6, "exemplars": 2}
    assert d.records.forgotten == ["histograms"]


def test_without_kafka_the_partitions_of_last_time_are_used(tmp_path):
    broker = Broker(histograms=4, exemplars=2)
    Deployment(broker, tmp_path).look()
    broker.is_away = True

    d = Deployment(broker, tmp_path)
    assert d.look() == {"histograms": 4, "exemplars": 2}
    broker.is_away, broker.partitions["raw-exemplars"] = False, 3
    assert d.look() == {"histograms": 4, "exemplars": 3}
    broker.is_away = True
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert Deployment(broker, fresh).look() == {}
