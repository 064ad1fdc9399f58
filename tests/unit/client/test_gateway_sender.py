"""A producer sends to a gateway as to Kafka: everything it accepts is acknowledged or lost."""

from __future__ import annotations

import time

import pytest

from tests.unit.gateway.served import STALE, ServedGateway
from varve.access.credentials import Credentials
from varve.client import NeedsOperator, Producer, Sample, TemporaryError, define
from varve.gateway.lane import Overloaded
from varve.gateway.push_protocols.json_samples import JsonSamples
from varve.local.broker import free_port
from varve.model.clock import ManualClock
from varve.model.errors import BadRequest

NOW_MS = 1_795_740_000_000
WAIT_S = 30


@pytest.fixture
def served():
    with ServedGateway([JsonSamples()]) as served:
        yield served


def until(condition):
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_recorded_arrives_with_its_ends(served):
    clock = ManualClock(NOW_MS)
    with Producer(served.url, tags={"job": "shop"}, report_s=1e9, clock=clock) as producer:
        producer.gauge("queue_length", 12, {"queue": "mail"}, help_text="Mails waiting.")
        producer.counter("orders_total", 3)
        clock.advance(1_000)
        assert producer.flush(WAIT_S)
        clock.advance(1_000)
    counts = producer.counts()

    assert served.lane.samples() == {
        (("__name__", "queue_length"), ("job", "shop"), ("queue", "mail")): [
            (NOW_MS, 12.0), (NOW_MS + 2_000, 12.0), (NOW_MS + 2_001, STALE),
        ],
        (("__name__", "orders_total"), ("job", "shop")): [
            (NOW_MS, 0.0), (NOW_MS + 1_000, 3.0), (NOW_MS + 2_000, 3.0), (NOW_MS + 2_001, STALE),
        ],
    }  # fmt: skip
    assert served.lane.kinds["queue_length"] == "gauge"
    assert (counts.accepted, counts.acknowledged, counts.lost) == (7, 7, 0)


def test_a_gateway_that_is_full_is_tried_again_until_it_takes_all(served):
    series = define("many", {}, metric_type="gauge")
    with Producer(served.url, stale_markers=False) as producer:
        served.lane.error = Overloaded("no room", 0.0)
        assert producer.put(Sample(series, NOW_MS + n, float(n)) for n in range(2_500)) == 0
        assert not producer.flush(0.2)
        assert producer.counts().waiting == 2_500
        served.lane.error = None
        assert producer.flush(WAIT_S)

    assert [value for _, value in served.lane.samples()[("__name__", "many"),]] == [
        float(n) for n in range(2_500)
    ]
    assert producer.counts().lost == 0


def test_what_is_not_taken_in_time_is_lost_and_counted(served):
    series = define("late", {}, metric_type="gauge")
    with Producer(served.url, delivery_s=0.3, stale_markers=False) as producer:
        served.lane.error = Overloaded("no room", 0.0)
        producer.put([Sample(series, NOW_MS, 1.0)])
        until(lambda: producer.counts().lost == 1)
        assert "503" in producer.counts().last_error
        producer.put([Sample(series, NOW_MS + 1, 1.0)])
        producer.close(0.0)
    counts = producer.counts()

    assert (counts.accepted, counts.acknowledged, counts.lost) == (2, 0, 2)


def test_no_room_is_told_at_once(served):
    series = define("large", {"text": "x" * 900}, metric_type="gauge")
    with Producer(served.url, buffer_bytes=5_000, stale_markers=False) as producer:
        served.lane.error = Overloaded("no room", 0.0)
        assert producer.put([Sample(series, NOW_MS, 1.0)]) == 0
        assert producer.put([Sample(series, NOW_MS + n, 1.0) for n in range(100)]) == 100
        assert producer.counts().lost == 100
        served.lane.error = None


def test_who_may_not_send_is_told_when_it_begins():
    with ServedGateway([JsonSamples()], credentials=Credentials({"app": "s3cret"}, {})) as served:
        with pytest.raises(NeedsOperator, match="does not let this sender in"):
            Producer(served.url, token="wrong")
        with Producer(served.url, token="s3cret") as producer:
            producer.gauge("m", 1)
        assert producer.counts().acknowledged == 2


def test_where_no_gateway_is_is_told_in_time():
    url = f"http://127.0.0.1:{free_port()}"

    with pytest.raises(TemporaryError, match="takes nothing"):
        Producer(url, connect_s=0.2)
    with pytest.raises(BadRequest, match="JSON"):
        Producer(url, format="arrow")
