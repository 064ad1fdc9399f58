"""A query service over tables that a test has written."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from varve.access.browsers import BrowserRules
from varve.api.app import create_app
from varve.api.http_protocol import Bounds
from varve.api.server import server_of, tcp_socket
from varve.api.service import Service
from varve.model.clock import ManualClock
from varve.model.identity import define
from varve.promql.evaluation.limits import Limits
from varve.query.evaluation import Options
from varve.query.snapshots import Snapshots
from varve.query.tables import Tables

NOW_MS = 1_795_338_000_000
SHOP = [
    define(
        "shop_requests_total",
        {"job": "demo-shop", "instance": f"h{i}", "route": f"/r{i % 2}"},
        metric_type="counter",
        help_text="Requests answered.",
    )
    for i in range(4)
]
LOAD = define("node_load1", {"job": "node", "instance": "h0"}, metric_type="gauge")
DOTTED = define("disk.free", {"job": "node", "mount point": "/"}, metric_type="gauge", unit="bytes")


def fill(tables, *, days: float = 8, now_ms: int = NOW_MS) -> None:
    """Days at a minute's interval, then ten minutes in small commits; load ends in the middle."""
    tables.define([*SHOP, LOAD, DOTTED], now_ms)
    begin, recent = now_ms - int(days * 86_400_000), now_ms - 600_000
    minutes = range(begin, recent, 60_000)
    history = [
        (series.series_id, ts, (ts - begin) / 1000 * (i + 1))
        for i, series in enumerate(SHOP)
        for ts in minutes
    ]
    history += [(LOAD.series_id, ts, 1 + math.sin(ts / 13_750_987)) for ts in minutes]
    tables.put(history)
    for ts in range(recent, now_ms + 1, 15_000):
        batch = [(s.series_id, ts, (ts - begin) / 1000 * (i + 1)) for i, s in enumerate(SHOP)]
        batch.append((DOTTED.series_id, ts, math.nan if ts == now_ms else math.inf))
        if ts == recent:
            batch.append((LOAD.series_id, ts, None))
        tables.put(batch, complete_ms=ts)


def service_over(tables, *, now_ms: int = NOW_MS, limits: Limits | None = None) -> Service:
    followed = Tables(tables.store, ["bulk"], 64 << 20)
    while not followed.caught_up:
        followed.poll()
    options = Options(limits or Limits(), lookback_ms=300_000, say_why_empty=True)
    rules = BrowserRules.of(["testserver"], [])  # Starlette's test client
    service = Service(
        options, ManualClock(now_ms), lambda: followed.view, lambda: "", browsers=rules
    )
    service.stopping = threading.Event()
    service.store = tables.store
    service.snapshots = Snapshots(tables.store, ["bulk"], service.view)

    def newer_view(_: object) -> object:
        followed.poll()
        return followed.view

    service.options = replace(options, newer_view=newer_view)
    return service


def app_over(tables, **options):
    return create_app(service_over(tables, **options))


@contextmanager
def served(service: Service, port: int = 0, bounds: Bounds | None = None) -> Iterator[str]:
    """The service's address while it runs, by default on a port of its own."""
    server = server_of(create_app(service), bounds=bounds)
    with tcp_socket("127.0.0.1") as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()  # so that who comes before the server is ready waits
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(10)
