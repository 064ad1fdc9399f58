"""The gateway's HTTP application: every answer is true of what became durable."""

from __future__ import annotations

import asyncio
import base64
import struct
from collections.abc import Mapping

import bcrypt
import pytest

from tests.remote_writing import (
    HEADERS_V1,
    HEADERS_V2,
    V2,
    metadata_request,
    snappy,
    write_request,
    write_request_v2,
)
from tests.unit.gateway.decoding import ANY_TIME, Decoding
from varve.access.credentials import Credentials
from varve.gateway.app import GatewayApp
from varve.gateway.batcher import Batcher
from varve.gateway.body_reader import BodyBounds
from varve.gateway.decoded import Bounds
from varve.gateway.first_sight import Input, Targets
from varve.gateway.lane import Overloaded
from varve.gateway.protobuf import delimited_field
from varve.gateway.quotas import Quota, Quotas
from varve.gateway.record_batcher import RecordBatcher, RecordRoad
from varve.gateway.turns import Turns
from varve.ingest import arrow_codec
from varve.model.metadata import Metadata

UP = {"__name__": "up"}
ONE = snappy(write_request([(UP, [(1, 1.0)])]))


class Lane:
    """Takes messages at once, or not, or when it is told to."""

    def __init__(self):
        self.samples = 0
        self.messages = []
        self.error = None
        self.held = None

    def deliver(self, messages):
        answer = asyncio.get_running_loop().create_future()
        if self.held is not None:
            self.held.append((answer, messages))
        elif self.error is not None:
            answer.set_exception(self.error)
        else:
            self.take(answer, messages)
        return answer

    def take(self, answer, messages):
        self.messages += messages
        self.samples += sum(len(arrow_codec.read(m.value).ts) for m in messages)
        answer.set_result(None)


class Meters:
    def __init__(self):
        self.statuses = []
        self.received = 0

    def request(self, protocol, status, seconds, size):
        self.statuses.append(status)

    def decoded(self, protocol, found):
        self.received += found.received()

    def page(self, accept):
        return b"metrics\n", "text/plain"


class Seconds:
    def __init__(self):
        self.at = 100.0

    def __call__(self):
        return self.at


class Deployment:
    """An application over lanes in memory."""

    def __init__(self, *, credentials=None, per_token=Quota(), per_address=Quota(), **more):  # noqa: B008
        targets = Targets(4, 2, lambda metric, _: metric == "up")
        critical = more.pop("critical", False)
        self.decoding = Decoding(targets if critical else Targets(4))
        self.bulk, self.critical = Lane(), Lane()
        self.meters = Meters()
        self.overloaded = ""
        self.seconds = Seconds()
        self.records = RecordBatcher(self.seconds, wait_s=0.0)
        self.batcher = Batcher(
            self.decoding.decoder,
            self.bulk,
            self.critical if critical else None,
            samples=more.pop("samples", 8_000),
            wait_s=more.pop("wait_s", 0.0),
            records=self.records,
        )
        bounds = more.pop("bounds", ANY_TIME)
        self.app = GatewayApp(
            self.batcher,
            credentials or Credentials({}, {}),
            Quotas(self.seconds, per_token, per_address),
            more.pop("inputs", lambda _: Input()),
            lambda: bounds,
            self.meters,
            why_overloaded=lambda: self.overloaded,
            has_critical=critical,
            **more,
        )

    async def send(self, body=ONE, headers: Mapping[str, str] = HEADERS_V1, **changes):
        """Status, headers and text of the answer."""
        chunks = body if isinstance(body, list) else [body]
        sent = []

        async def receive():
            if not chunks:
                await asyncio.sleep(3600)
            chunk = chunks.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message):
            sent.append(message)

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/api/v1/write",
            "client": ("10.0.0.1", 1),
            "headers": [(k.lower().encode(), v.encode()) for k, v in headers.items()],
        } | changes
        await self.app(scope, receive, send)
        found = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
        return sent[0]["status"], found, sent[1]["body"].decode()


def scenario(story):
    """Runs a coroutine function in a loop."""

    def test():
        asyncio.run(story())

    test.__name__ = story.__name__
    return test


@scenario
async def test_what_is_2xx_has_been_delivered():
    d = Deployment()
    d.bulk.held = []
    waiting = asyncio.create_task(d.send())
    while not d.bulk.held:  # noqa: ASYNC110 - the lane is what a test looks at
        await asyncio.sleep(0)
    assert not waiting.done()

    d.bulk.take(*d.bulk.held[0])

    assert (await waiting)[0] == 204
    assert d.bulk.samples == 1


@scenario
async def test_requests_at_once_share_messages_and_each_is_answered():
    d = Deployment(samples=50, wait_s=3_600)  # so they go when the last one has come
    bodies = [snappy(write_request([({"__name__": f"m{n}"}, [(1, 1.0)])])) for n in range(50)]

    answers = await asyncio.gather(*map(d.send, bodies))

    assert [status for status, _, _ in answers] == [204] * 50
    assert d.bulk.samples == 50
    assert len(d.bulk.messages) == 4


@scenario
async def test_a_request_larger_than_a_batch_goes_at_once():
    d = Deployment(samples=10, wait_s=3600)
    body = snappy(write_request([(UP, [(n, 1.0) for n in range(100)])]))

    assert (await d.send(body))[0] == 204
    assert d.bulk.samples == 100


@scenario
async def test_what_is_not_delivered_is_503_and_its_series_are_defined_again():
    d = Deployment()
    d.bulk.error = Overloaded("no room", 7.0)

    status, headers, text = await d.send()
    assert (status, headers["retry-after"]) == (503, "7")
    assert "no room" in text

    d.bulk.error = None
    assert (await d.send())[0] == 204
    assert [len(arrow_codec.read(m.value).definitions) for m in d.bulk.messages] == [1]


def said_in(messages):
    """What messages say of metrics, in their order."""
    return [dict(arrow_codec.read(m.value).metadata) for m in messages]


@scenario
async def test_what_is_said_of_metrics_apart_is_durable_before_it_is_answered_and_sent_once():
    d = Deployment()
    body = snappy(metadata_request([("jobs", 1, "", "Jobs done."), ("lat", 3, "seconds", "")]))
    both = {"jobs": Metadata("counter", "", "Jobs done."), "lat": Metadata("histogram", "seconds")}
    d.bulk.error = Overloaded("no room", 7.0)
    assert (await d.send(body))[0] == 503

    d.bulk.error, d.bulk.held = None, []
    waiting = asyncio.create_task(d.send(body))
    while not d.bulk.held:  # noqa: ASYNC110 - the lane is what a test looks at
        await asyncio.sleep(0)
    assert not waiting.done()
    d.bulk.take(*d.bulk.held[0])
    assert (await waiting)[0] == 204
    assert said_in(d.bulk.messages) == [both]

    d.bulk.held = None
    other = snappy(metadata_request([("jobs", 2, "", "Said otherwise."), ("lat", 3, "", "Late.")]))
    for again in (body, other, other):
        assert (await d.send(again))[0] == 204
    assert said_in(d.bulk.messages)[1:] == [{"lat": Metadata("histogram", "seconds", "Late.")}]


@scenario
async def test_much_metadata_is_several_messages_that_a_broker_takes():
    d = Deployment()
    families = [(f"m{n}", 2, "", "x" * 4_000) for n in range(300)]

    assert (await d.send(snappy(metadata_request(families))))[0] == 204

    assert max(len(m.value) for m in d.bulk.messages) < 2**20
    assert {m: one.type for part in said_in(d.bulk.messages) for m, one in part.items()} == {
        name: "gauge" for name, *_ in families
    }


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"content-type": "text/plain"}, 415),
        ({"content-type": "application/json"}, 415),
        ({"content-type": "application/x-protobuf;proto=io.prometheus.write.v3.Request"}, 415),
        ({"content-encoding": "gzip"}, 415),
        ({"content-encoding": "zstd"}, 415),
        ({"content-type": "application/x-protobuf; proto=prometheus.WriteRequest"}, 204),
        ({"content-type": 'Application/X-Protobuf;proto="prometheus.WriteRequest"'}, 204),
        ({"content-type": "application/x-protobuf; charset=utf-8"}, 204),
        ({"content-type": "application/x-protobuf;proto="}, 415),
        ({"content-type": "application/x-protobuf;proto"}, 415),
        ({"content-type": ""}, 204),
        ({"content-encoding": "SNAPPY"}, 204),
        ({"content-encoding": "identity"}, 415),
        ({"content-encoding": "snappy, snappy"}, 415),
        ({"content-length": "9999999999"}, 413),
    ],
)
def test_headers_are_judged_before_the_body_is_read(changes, status):
    async def story():
        d = Deployment()
        body = ONE if status == 204 else []  # reading it would never end
        assert (await d.send(body, HEADERS_V1 | changes))[0] == status

    asyncio.run(story())


@scenario
async def test_bodies_are_bounded_before_and_after_they_are_expanded():
    d = Deployment(body_bounds=BodyBounds(body=1_000, expanded=10_000, in_flight=1_500))

    assert (await d.send([b"x" * 600, b"x" * 600]))[0] == 413
    bomb = snappy(bytes(20_000))
    assert len(bomb) < 1_000
    assert (await d.send(bomb))[0] == 413
    liar = bytes([0xFF, 0xFF, 0x1, 0, 0])
    assert (await d.send(liar))[0] in (400, 413)
    assert (await d.send(b""))[0] == 400
    assert (await d.send())[0] == 204


@scenario
async def test_requests_that_are_being_read_are_bounded_together():
    d = Deployment(body_bounds=BodyBounds(body=1_000, in_flight=1_500))
    read, go_on = asyncio.Event(), asyncio.Event()
    chunks = iter([{"type": "http.request", "body": b"x" * 900, "more_body": True}])

    async def receive():
        chunk = next(chunks, None)
        if chunk is None:
            read.set()
            await go_on.wait()
            return {"type": "http.disconnect"}
        return chunk

    async def send(_message):
        raise AssertionError("it has hung up")

    headers = [(k.encode(), v.encode()) for k, v in HEADERS_V1.items()]
    scope = {"type": "http", "method": "POST", "path": "/api/v1/write", "client": None}
    slow = asyncio.create_task(d.app(scope | {"headers": headers}, receive, send))
    await read.wait()

    status, answer, _ = await d.send(b"x" * 900)
    assert (status, answer["retry-after"]) == (503, "1")

    go_on.set()
    await slow
    assert (await d.send(b"x" * 900))[0] == 400


@scenario
async def test_a_body_that_takes_too_long_is_given_up():
    d = Deployment(body_bounds=BodyBounds(read_s=0.01))

    async def receive():
        await asyncio.sleep(3600)

    sent = []

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/api/v1/write", "client": None}
    headers = [(k.encode(), v.encode()) for k, v in HEADERS_V1.items()]
    await d.app(scope | {"headers": headers}, receive, send)

    assert sent[0]["status"] == 408
    assert d.app.bytes_in_flight == 0


@scenario
async def test_bad_series_are_400_by_name_and_the_others_are_taken():
    d = Deployment()
    sent = [({"job": "x"}, [(1, 1.0)]), (UP, [(1, 1.0), (2, 2.0)])]

    status, headers, text = await d.send(snappy(write_request(sent)))
    assert (status, d.bulk.samples) == (400, 2)
    assert "{job='x'} has no metric name" in text
    assert not any("written" in name for name in headers)

    status, headers, text = await d.send(snappy(write_request_v2(sent)), HEADERS_V2)
    assert (status, d.bulk.samples) == (400, 4)
    assert headers["x-prometheus-remote-write-samples-written"] == "2"


def refs(*numbers):
    return delimited_field(1, bytes(numbers))


SAMPLE = delimited_field(2, b"\x09" + struct.pack("<d", 1.0) + b"\x10\x01")
EXEMPLAR = delimited_field(4, refs(3, 4) + b"\x11" + struct.pack("<d", 1.0) + b"\x18\x01")
NUMBER_6 = b"\x30\x01"


@pytest.mark.parametrize(
    ("series", "status", "written", "complaint"),
    [
        ([refs(1, 2) + SAMPLE], 204, 1, ""),
        ([], 204, 0, ""),
        ([refs(3, 4, 1, 2) + SAMPLE], 204, 1, ""),  # in no order
        ([refs(1, 2) + SAMPLE + NUMBER_6], 204, 1, ""),  # a start, as drafts of 2.0 had it
        ([refs(1, 2) + NUMBER_6 + SAMPLE], 204, 1, ""),
        ([refs(1, 2) + SAMPLE, refs(3, 4) + SAMPLE], 400, 1, "{job='x'} has no metric name"),
        ([refs(1, 2, 3) + SAMPLE], 400, 0, "one has no pair"),
        ([refs(1, 9) + SAMPLE], 400, 0, "past the 5 symbols"),
        ([SAMPLE], 400, 0, "has no metric name"),
        ([refs(1, 2, 0, 4) + SAMPLE], 400, 0, "has no name"),
        ([refs(1, 2, 1, 2) + SAMPLE], 400, 0, "'__name__' comes twice"),
        ([refs(1, 2, 3, 4, 3, 4) + SAMPLE], 400, 0, "'job' comes twice"),
        ([refs(1, 2)], 400, 0, "neither samples nor histograms"),
        ([refs(1, 2) + EXEMPLAR], 400, 0, "neither samples nor histograms"),
    ],
)
def test_what_is_written_of_a_request_of_version_2_is_in_the_headers(
    series, status, written, complaint
):
    symbols = b"".join(delimited_field(4, s.encode()) for s in ("", "__name__", "up", "job", "x"))
    body = symbols + b"".join(delimited_field(5, one) for one in series)

    async def story():
        d = Deployment()
        answer, headers, text = await d.send(
            snappy(body + delimited_field(15, b"a field of later days")), HEADERS_V2
        )
        assert (answer, d.bulk.samples) == (status, written)
        assert headers["x-prometheus-remote-write-samples-written"] == str(written)
        assert complaint in text

    asyncio.run(story())


@scenario
async def test_histograms_and_exemplars_without_a_topic_are_told_never_dropped():
    request = V2["Request"]()
    request.symbols.extend(["", "__name__", "a", "trace", "t"])
    one = request.timeseries.add(labels_refs=[1, 2])
    one.samples.add(timestamp=1, value=1.0)
    one.exemplars.add(labels_refs=[3, 4], value=1.0, timestamp=1)
    one.histograms.add(count_int=0, timestamp=1)
    d = Deployment()

    status, headers, text = await d.send(snappy(request.SerializeToString()), HEADERS_V2)

    assert status == 400
    assert "1 native histograms" in text
    assert "1 exemplars" in text
    assert [
        headers[f"x-prometheus-remote-write-{kind}-written"]
        for kind in ("samples", "histograms", "exemplars")
    ] == ["1", "0", "0"]
    assert d.bulk.samples == 1


@scenario
async def test_histograms_and_exemplars_are_durable_before_they_are_answered():
    request = V2["Request"]()
    request.symbols.extend(["", "__name__", "a", "trace", "t"])
    one = request.timeseries.add(labels_refs=[1, 2])
    one.histograms.add(count_int=0, timestamp=1)
    one.exemplars.add(labels_refs=[3, 4], value=1.0, timestamp=1)
    d = Deployment()
    lanes = {table: Lane() for table in ("histograms", "exemplars")}
    for table, lane in lanes.items():
        d.records.open(table, RecordRoad(lane, 2))
    body = snappy(request.SerializeToString())

    status, headers, _ = await d.send(body, HEADERS_V2)

    assert status == 204
    assert [
        headers[f"x-prometheus-remote-write-{kind}-written"]
        for kind in ("samples", "histograms", "exemplars")
    ] == ["0", "1", "1"]
    assert [lane.samples for lane in lanes.values()] == [1, 1]
    lanes["exemplars"].error = Overloaded("full")
    status, headers, _ = await d.send(body, HEADERS_V2)
    assert (status, headers["retry-after"]) == (503, "5")


@scenario
async def test_histograms_of_an_overloaded_topic_are_refused_so_that_they_come_again():
    request = V2["Request"]()
    request.symbols.extend(["", "__name__", "a"])
    request.timeseries.add(labels_refs=[1, 2]).histograms.add(count_int=0, timestamp=1)
    d = Deployment(critical=True)
    lane = Lane()
    d.records.open("histograms", RecordRoad(lane, 2))
    body = snappy(request.SerializeToString())
    for overloaded, expected in (("", 204), ("the spool is full", 503), ("", 204)):
        d.overloaded = overloaded
        status, _, _ = await d.send(body, HEADERS_V2)
        assert status == expected
    assert lane.samples == 2


@scenario
async def test_partitions_that_are_added_are_used_and_series_are_defined_where_they_are_now():
    labels = [{"__name__": "m", "n": str(n)} for n in range(30)] + [UP]
    body = snappy(write_request([(one, [(1, 1.0)]) for one in labels]))
    d = Deployment(critical=True)

    async def partitions():
        d.bulk.messages, d.critical.messages = [], []
        assert (await d.send(body))[0] == 204
        found = []
        for lane in (d.bulk, d.critical):
            blocks = [(m.target, arrow_codec.read(m.value)) for m in lane.messages]
            found.append({i: t for t, block in blocks for i in block.series_ids.tolist()})
            defined = {s.series_id: t for t, block in blocks for s in block.definitions}
            assert defined in ({}, found[-1])
        return (*found, sum(len(b.definitions) for _, b in blocks))

    for bulk, critical in ((4, 2), (6, 3)):
        d.batcher.retarget(Targets(bulk, critical, lambda metric, _: metric == "up"))
        of_bulk, of_critical, defined = await partitions()
        assert all(target == i % bulk for i, target in of_bulk.items())
        assert all(target == i % critical for i, target in of_critical.items())
        assert (len(of_bulk), len(of_critical), defined) == (30, 1, 1)
        assert (await partitions())[2] == 0


@scenario
async def test_a_storm_on_bulk_does_not_touch_critical_samples():
    d = Deployment(critical=True)
    both = snappy(write_request([(UP, [(1, 1.0)]), ({"__name__": "bulk"}, [(1, 1.0)])]))
    assert (await d.send(both))[0] == 204
    assert (d.bulk.samples, d.critical.samples) == (1, 1)
    d.overloaded = "the spool is full"

    status, headers, text = await d.send(both)
    assert (status, text) == (503, "the spool is full: send again later\n")
    assert headers["retry-after"]
    assert (d.bulk.samples, d.critical.samples) == (1, 2)
    assert (await d.send())[0] == 204
    assert d.critical.samples == 3

    d.overloaded, d.bulk.held = "", []
    assert (await d.send())[0] == 204  # does not wait for the bulk lane, which is silent


@scenario
async def test_where_requests_wait_too_long_bulk_is_told_to_come_again_and_critical_is_taken():
    d = Deployment(critical=True, turns=Turns(most_wait_s=-1.0), crowded_answer_s=0.0)
    bulk = snappy(write_request([({"__name__": "bulk"}, [(1, 1.0)])]))
    both = snappy(write_request([(UP, [(1, 1.0)]), ({"__name__": "bulk"}, [(1, 1.0)])]))
    known = ("10.0.0.1", 1)
    assert (await d.send(bulk, client=known))[0] == 204

    answers = await asyncio.gather(
        d.send(bulk, client=("10.0.0.1", 2)),  # has its turn at once
        d.send(bulk, client=("10.0.0.1", 3)),  # waits, as long as anybody may
        d.send(both, client=("10.0.0.1", 4)),  # nobody knows what this connection sends
        d.send(bulk, client=known),
    )

    assert [status for status, _, _ in answers] == [204, 204, 503, 503]
    assert "requests wait for too long" in answers[3][2]
    assert answers[3][1]["retry-after"] == "5"
    assert (d.bulk.samples, d.critical.samples) == (3, 1)
    assert d.app.bytes_in_flight == 0


@scenario
async def test_while_others_wait_for_their_turn_critical_samples_do_not_wait_for_a_batch():
    d = Deployment(critical=True, wait_s=3_600.0)
    bulk = snappy(write_request([({"__name__": "bulk"}, [(1, 1.0)])]))

    first, critical, last = (
        asyncio.create_task(d.send(body, client=("10.0.0.1", n)))
        for n, body in enumerate((bulk, ONE, bulk))
    )

    assert (await critical)[0] == 204
    assert (await first)[0] == 204  # was in the same batch
    assert d.critical.samples == 1
    assert not last.done()
    last.cancel()


@scenario
async def test_whoever_is_refused_in_a_crowd_waits_for_the_answer_and_takes_no_room_meanwhile():
    d = Deployment(turns=Turns(most_wait_s=-1.0), crowded_answer_s=3_600.0, critical=True)
    bulk = snappy(write_request([({"__name__": "bulk"}, [(1, 1.0)])]))
    known = ("10.0.0.1", 1)
    assert (await d.send(bulk, client=known))[0] == 204

    others = [asyncio.create_task(d.send(bulk, client=("10.0.0.1", n))) for n in (2, 3)]
    refused = asyncio.create_task(d.send(bulk, client=known))

    assert [(await other)[0] for other in others] == [204, 204]
    assert not refused.done()
    assert d.app.bytes_in_flight == 0
    refused.cancel()


@scenario
async def test_over_its_quota_a_sender_gets_429_and_others_nothing_of_it():
    access = Credentials({"a": "token-a", "b": "token-b"}, {})
    d = Deployment(credentials=access, per_token=Quota(samples=1.0))
    as_a = HEADERS_V1 | {"authorization": "Bearer token-a"}
    as_b = HEADERS_V1 | {"authorization": "Bearer token-b"}
    body = snappy(write_request([(UP, [(n, 1.0) for n in range(30)])]))

    assert (await d.send(body, as_a))[0] == 204  # what it has saved up is overdrawn once
    status, headers, _ = await d.send(body, as_a)
    assert (status, headers["retry-after"]) == (429, "21")
    assert (await d.send(body, as_b))[0] == 204
    d.seconds.at += 21
    assert (await d.send(body, as_a))[0] == 204


@scenario
async def test_over_the_quota_of_its_address_a_sender_gets_429_whatever_its_token():
    access = Credentials({"a": "token-a", "b": "token-b"}, {})
    d = Deployment(credentials=access, per_address=Quota(samples=1.0))
    as_a = HEADERS_V1 | {"authorization": "Bearer token-a"}
    as_b = HEADERS_V1 | {"authorization": "Bearer token-b"}
    body = snappy(write_request([(UP, [(n, 1.0) for n in range(30)])]))

    assert (await d.send(body, as_a))[0] == 204
    assert (await d.send(body, as_b, client=("10.0.0.1", 2)))[0] == 429
    assert (await d.send(body, as_a, client=("10.0.0.2", 1)))[0] == 204


@scenario
async def test_new_series_beyond_a_quota_are_429_and_known_ones_flow():
    d = Deployment(per_address=Quota(new_series=0.1))
    assert (await d.send())[0] == 204
    new = write_request([({"__name__": f"new{n}"}, [(1, 1.0)]) for n in range(3)])

    status, _, text = await d.send(snappy(new + write_request([(UP, [(2, 1.0)])])))

    assert status == 429
    assert "new series" in text
    assert d.bulk.samples == 2


@scenario
async def test_bytes_beyond_a_quota_are_429_before_they_are_read():
    d = Deployment(per_address=Quota(bytes=0.5))
    body = snappy(write_request([(UP, [(n, 1.0) for n in range(30)])]))
    assert (await d.send(body))[0] == 204

    assert (await d.send([]))[0] == 429
    assert (await d.send(body, client=("10.0.0.2", 1)))[0] == 204


def basic(user, password):
    credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
    return HEADERS_V1 | {"authorization": f"Basic {credentials}"}


@scenario
async def test_who_may_write_has_a_token_or_a_user_with_the_password():
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    labels = {"team": Input("team", (("by", "token"),)), "user": Input("user", (("by", "user"),))}
    d = Deployment(
        credentials=Credentials({"team": "t0ken"}, {"user": hashed}),
        inputs=lambda name: labels[name],
    )

    for headers in (
        HEADERS_V1,
        HEADERS_V1 | {"authorization": "Bearer wrong"},
        HEADERS_V1 | {"authorization": "Bearer "},
        HEADERS_V1 | {"authorization": "Basic !!"},
        HEADERS_V1 | {"authorization": "t0ken"},
        basic("user", "wrong"),
        basic("nobody", "secret"),
        basic("user", ""),
    ):
        status, found, text = await d.send([], headers)
        assert status == 401
        assert "t0ken" not in text
        assert "Bearer" in found["www-authenticate"]
    assert d.bulk.samples == 0

    assert (await d.send(ONE, HEADERS_V1 | {"authorization": "bearer t0ken"}))[0] == 204
    for _ in range(2):
        assert (await d.send(ONE, basic("user", "secret")))[0] == 204
    defined = [x for m in d.bulk.messages for x in arrow_codec.read(m.value).definitions]
    assert [dict(x.tags)["by"] for x in defined] == ["token", "user"]


@scenario
async def test_it_says_where_things_are():
    d = Deployment(why_not_ready=lambda: "it waits")

    assert (await d.send(method="GET"))[:2][0] == 405
    assert (await d.send(path="/-/healthy", method="GET"))[0] == 200
    assert (await d.send(path="/-/ready", method="GET"))[0] == 503
    assert (await d.send(path="/metrics", method="GET"))[2] == "metrics\n"
    status, _, text = await d.send(path="/nowhere", method="GET")
    assert status == 404
    assert "/api/v1/write" in text


@scenario
async def test_samples_in_are_those_delivered_and_those_refused():
    d = Deployment(bounds=Bounds(0, 100))
    for n in range(20):
        await d.send(
            snappy(
                write_request(
                    [
                        (UP, [(n, 1.0), (n + 90, 1.0), (-1, 1.0)]),
                        ({"no": "name"}, [(1, 1.0)] * 2),
                    ]
                )
            )
        )

    taken = sum(1 for n in range(20) for ts in (n, n + 90) if ts <= 100)
    assert d.meters.received == 20 * 5
    assert d.bulk.samples == taken
