"""Tables with episodes, baselines, forecasts and capacity, made by the jobs of a shop's week."""

from __future__ import annotations

import numpy as np

from tests.tables import WrittenTables
from varve.anomaly.baseline_job import Baselines
from varve.anomaly.detector import Detector
from varve.anomaly.judge import judge
from varve.anomaly.rules import Rules
from varve.forecast.forecast_job import Forecasting, fit_here
from varve.forecast.resources import parse
from varve.maintenance.batch_job import execute
from varve.model.clock import ManualClock
from varve.model.identity import define

MINUTE, HOUR, DAY = 60_000, 3_600_000, 86_400_000
LATENCY = define("shop_latency_seconds", {"job": "shop", "route": "/cart"}, metric_type="gauge")
ORDERS = define("shop_orders_total", {"job": "shop"}, metric_type="counter")
DISK = define("shop_disk_used_bytes", {"volume": "data"}, metric_type="gauge")
RESOURCES = parse(
    """
[resource.disk]
match = { __name__ = "shop_disk_used_bytes" }
threshold = 90e9
""",
    "here",
)
DAYS = 8


def made(root: str, now_ms: int) -> tuple[WrittenTables, int]:
    """The tables, and the end of their last hour: DAYS days, in the last hours of which /cart is
    slow and orders fail, while the disk fills by 5 % a day.
    """
    tables = WrittenTables(root)
    end_ms = now_ms // HOUR * HOUR
    begin_ms = end_ms - DAYS * DAY
    tables.define([LATENCY, ORDERS, DISK])
    random = np.random.default_rng(1)
    rows, orders = [], 0.0
    for at in range(begin_ms, end_ms, MINUTE):
        day = np.sin((at % DAY) / DAY * 2 * np.pi)
        slow = end_ms - 5 * HOUR < at <= end_ms - 4 * HOUR
        failing = end_ms - 90 * MINUTE < at <= end_ms - 60 * MINUTE
        latency = 0.2 + 0.05 * day + random.normal(0, 0.01) + (0.15 if slow else 0)
        orders += 0 if failing else float(random.poisson(60 + 20 * day))
        used = 30e9 + 5e9 * (at - begin_ms) / DAY + 0.8e9 * day + random.normal(0, 1e8)
        ts = at + MINUTE // 2
        values = {LATENCY: latency, ORDERS: orders, DISK: used}
        rows += [(series.series_id, ts, float(value)) for series, value in values.items()]
    tables.put(rows, complete_ms=end_ms)
    tables.roll_up()
    execute(Baselines(tables.store), tables.store, 0)
    rules = Rules()
    judge_all = lambda tasks: [judge(task) for task in tasks]  # noqa: E731
    detector = Detector(tables.store, lambda: rules, judge_all, ManualClock(end_ms))
    while detector.step() is not None:
        pass
    execute(Forecasting(tables.store, RESOURCES, fit_here, lambda _: None), tables.store, 0)
    return tables, end_ms
