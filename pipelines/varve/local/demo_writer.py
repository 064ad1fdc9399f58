"""`varve serve demo-writer`: a small program that speaks remote write 2.0 to the gateway.

It stands for whatever is pointed at the gateway: a greenhouse of the demo, some gauges and counters
every few seconds.
"""

from __future__ import annotations

import http.client
import logging
import math
import random
import struct
from collections.abc import Iterable, Mapping

import cramjam

from varve.collectors.schedule import ticks
from varve.gateway.protobuf import delimited_field, write_varint
from varve.model.clock import SystemClock
from varve.model.window import DAY_MS
from varve.services.signals import stop_requested
from varve.services.status import ComponentStatus
from varve.settings import Settings

COMPONENT = "demo-writer"

_HEADERS = {
    "content-type": "application/x-protobuf;proto=io.prometheus.write.v2.Request",
    "content-encoding": "snappy",
    "x-prometheus-remote-write-version": "2.0.0",
    "user-agent": "varve-demo-writer",
}
_TIMEOUT_S = 30.0
_BEDS = ("tomatoes", "basil", "orchids")

_log = logging.getLogger("varve.demo_writer")


def run(settings: Settings) -> int:
    """Blocks until SIGTERM or SIGINT, and returns 0. What the gateway does not take in time is left
    out: the next measurement is on its way.
    """
    stop = stop_requested()
    status = ComponentStatus(settings.home, COMPONENT)
    status.update(state="starting")
    rng = random.Random(settings.demo.seed)  # noqa: S311 - weather, no secret
    watered = dict.fromkeys(_BEDS, 0.0)
    sent, failing = 0, ""
    for now_ms in ticks(SystemClock(), round(settings.collector.interval_s * 1000), stop):
        series = list(_measure(now_ms, rng, watered))
        why = _send(settings, request_of(series, now_ms))
        if why != failing:
            _log.info("the gateway takes samples again") if not why else _log.warning("%s", why)
            failing = why
        sent += 0 if why else len(series)
        status.update(state="ready", detail={"samples": sent, "last_error": why or None})
        status.progressed()
    status.update(state="stopped")
    return 0


def request_of(series: Iterable[tuple[Mapping[str, str], float]], now_ms: int) -> bytes:
    """A request of remote write 2.0: a sample of each series, at now_ms."""
    symbols = {"": 0}
    written = []
    for labels, value in series:
        pairs = [text for pair in sorted(labels.items()) for text in pair]
        refs = [symbols.setdefault(text, len(symbols)) for text in pairs]
        sample = b"\x09" + struct.pack("<d", value) + b"\x10" + write_varint(now_ms)
        content = delimited_field(1, b"".join(map(write_varint, refs))) + delimited_field(2, sample)
        written.append(delimited_field(5, content))
    return b"".join([delimited_field(4, text.encode()) for text in symbols] + written)


def _measure(
    now_ms: int, rng: random.Random, watered: dict[str, float]
) -> Iterable[tuple[Mapping[str, str], float]]:
    everywhere = {"job": COMPONENT, "generated": "true"}
    noon = math.sin(now_ms % DAY_MS / DAY_MS * 2 * math.pi - math.pi / 2)
    for n, bed in enumerate(_BEDS):
        labels = everywhere | {"bed": bed}
        degrees = 22 + n + 4 * noon + rng.gauss(0, 0.2)
        yield labels | {"__name__": "greenhouse_temperature_celsius"}, degrees
        watered[bed] += max(0.0, rng.gauss(0.02 * (degrees - 15), 0.05))
        yield labels | {"__name__": "greenhouse_water_litres_total"}, watered[bed]


def _send(settings: Settings, body: bytes) -> str:
    """Why the gateway did not take it; "" if it did."""
    gateway = settings.gateway
    token = next(iter(gateway.tokens.values()), None)
    login = {} if token is None else {"authorization": f"Bearer {token.get_secret_value()}"}
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=_TIMEOUT_S)
    try:
        content = bytes(cramjam.snappy.compress_raw(body))
        connection.request("POST", "/api/v1/write", content, _HEADERS | login)
        answer = connection.getresponse()
        text = answer.read(500).decode(errors="replace").strip()
    except (OSError, http.client.HTTPException) as err:
        return f"no gateway at {gateway.host}:{gateway.port}: {err}"
    finally:
        connection.close()
    return "" if answer.status == 204 else f"the gateway answered {answer.status}: {text}"
