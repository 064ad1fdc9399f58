"""A process that is killed loses nothing and doubles nothing."""

import pytest

from tests.integration.ingest.accounting import Ingesting
from tests.integration.ingest.faults import POINTS

pytestmark = [pytest.mark.spark, pytest.mark.kafka]


@pytest.fixture
def ingesting(kafka_broker, tmp_path):
    running = Ingesting(kafka_broker.bootstrap_servers, tmp_path / "a home")
    yield running
    running.close()


def test_a_process_killed_in_mid_stream_and_tables_put_back_lose_and_double_nothing(
    ingesting, tmp_path
):
    ingesting.start()
    ingesting.send_until(lambda: ingesting.rows() > 200)
    ingesting.kill()
    ingesting.save(tmp_path / "a minute ago")

    ingesting.send(70)
    ingesting.start()
    before = ingesting.rows()
    ingesting.send_until(lambda: ingesting.rows() > before + 200)
    ingesting.kill()
    ingesting.put_back(tmp_path / "a minute ago")

    ingesting.start()
    ingesting.send(70)
    ingesting.await_all()

    assert ingesting.terminate() == 0
    ingesting.assert_exact()


@pytest.mark.slow
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_any_point_of_a_batch_loses_and_doubles_nothing(ingesting, point):
    for number in (1, 3):
        ingesting.limit(10 * number)
        ingesting.send(21)
        ingesting.start(point, number)
        ingesting.send_until_killed()

    ingesting.start()
    ingesting.await_all()

    ingesting.assert_exact()
