from varve.local.broker import BrokerConfig


def test_a_power_cut_takes_a_second_of_what_was_acknowledged_at_most(tmp_path):
    config = BrokerConfig(tmp_path, 1, 2, heap_mb=256, retention_ms=1_000)

    properties = dict(
        line.split("=", 1) for line in config.properties().splitlines() if not line.startswith("#")
    )

    # Kafka looks at the second only as often as the first says, which is never by default.
    assert properties["log.flush.scheduler.interval.ms"] == "1000"
    assert properties["log.flush.interval.ms"] == "1000"
