import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from tests.tables import WrittenTables
from varve.local.broker import free_port
from varve.local.kafka_setup import KafkaSetup
from varve.model.errors import NeedsOperator
from varve.services.home import Home
from varve.settings import Settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka_broker, tmp_path):
    """Those of a home whose own broker is the one of the tests."""
    topics = {
        name: f"setup-{name}" for name in ("raw", "critical", "series", "anomalies", "alerts")
    }
    kafka = {"port": kafka_broker.config.port, "topics": topics, "partitions": 1}
    WrittenTables(str(tmp_path / "tables"))
    return Settings.model_validate({"home": tmp_path, "kafka": kafka})


def _kept_ms(settings):
    """How long messages of each topic are kept."""
    admin = KafkaAdminClient(bootstrap_servers=settings.kafka.servers())
    # Gateways that agree who leads have that topic made for them.
    names = settings.kafka.topics.model_dump(exclude={"leaders"}).values()
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, n) for n in names])
    admin.close()
    return {
        config["retention.ms"]["value"] for topics in found.values() for config in topics.values()
    }


def test_messages_that_ingest_has_not_stored_do_not_expire_by_age(settings, monkeypatch):
    clock = [1_000.0]
    monkeypatch.setattr("varve.local.kafka_setup.time.monotonic", lambda: clock[0])
    setup = KafkaSetup(settings, Home.at(settings.home), lambda _text: None)
    setup.make_topics()
    assert _kept_ms(settings) == {"-1"}

    setup.keep_unread(ingesting=True)  # and nothing waits
    assert _kept_ms(settings) == {"7200000"}

    clock[0] += 31
    setup.keep_unread(ingesting=False)  # it may just be started again
    assert _kept_ms(settings) == {"7200000"}

    clock[0] += 31
    setup.keep_unread(ingesting=False)
    assert _kept_ms(settings) == {"-1"}


def test_a_kafka_of_ones_own_is_left_as_it_is_and_must_be_there(settings):
    kafka = settings.kafka.model_copy(update={"bootstrap_servers": f"127.0.0.1:{free_port()}"})
    setup = KafkaSetup(
        settings.model_copy(update={"kafka": kafka}), Home.at(settings.home), lambda _text: None
    )

    setup.keep_unread(ingesting=False)
    with pytest.raises(NeedsOperator, match=r"correct kafka\.bootstrap_servers"):
        setup.make_topics()
