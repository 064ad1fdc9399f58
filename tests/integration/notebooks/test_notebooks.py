"""The notebooks run from top to end on a small real data set: Google's shares of 2004 to 2008, which
matplotlib ships. A trading day stands for an hour, and for a minute where minutes are judged.
"""

import os
import runpy
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import numpy as np
import pytest

from tests.tables import WrittenTables
from varve.anomaly.baseline_job import Baselines
from varve.anomaly.detector import Detector
from varve.anomaly.judge import judge
from varve.anomaly.rules import Rule, Rules
from varve.forecast.forecast_job import Forecasting, fit_here
from varve.forecast.resources import parse
from varve.local.broker import free_port
from varve.maintenance.batch_job import execute
from varve.model.clock import SystemClock
from varve.model.identity import define
from varve.services.own_services import DIRECT

pytest.importorskip("matplotlib")

NOTEBOOKS = Path(__file__).parents[3] / "notebooks"
HOUR, MINUTE = 3_600_000, 60_000
PRICE = define("share_price_dollars", {"company": "google"}, metric_type="gauge")
TRADED = define("shares_traded", {"company": "google"}, metric_type="gauge")
METRIC = {
    "1_explore": PRICE.metric,
    "2_anomaly_review": TRADED.metric,
    "3_capacity": PRICE.metric,
    "4_own_model": PRICE.metric,
}
RESOURCES = parse(
    """
    [resource.shares]
    match = { __name__ = "share_price_dollars" }
    threshold = 400
    reached = "below"
    """,
    "here",
)


@pytest.fixture(scope="module")
def service(tmp_path_factory):
    """The address of a query service over a home with the data."""
    import matplotlib.cbook

    home = tmp_path_factory.mktemp("home")
    data = matplotlib.cbook.get_sample_data("goog.npz")["price_data"]
    tables = WrittenTables(str(home / "tables"))
    tables.define([PRICE, TRADED])
    end = SystemClock().now_ms() // HOUR * HOUR
    prices, volumes = data["adj_close"][-400:], data["volume"][-600:] / 1e6
    samples = [
        (PRICE.series_id, end - (len(prices) - 1 - n) * HOUR - MINUTE, float(price))
        for n, price in enumerate(prices)
    ]
    samples += [
        (TRADED.series_id, end - (len(volumes) - 1 - n) * MINUTE - 1_000, float(volume))
        for n, volume in enumerate(volumes)
    ]
    tables.put(samples, complete_ms=end)
    tables.roll_up()
    execute(Baselines(tables.store), tables.store, 0)
    rules = Rules(Rule(least_minutes=100))
    detector = Detector(
        tables.store, lambda: rules, lambda tasks: [judge(task) for task in tasks], SystemClock()
    )
    while detector.step() is not None:
        pass
    execute(Forecasting(tables.store, RESOURCES, fit_here, lambda _: None), tables.store, 0)
    port = free_port()
    command = [sys.executable, "-m", "varve.cli", "serve", "query", "--home", str(home)]
    environment = os.environ | {"VARVE_QUERY__PORT": str(port)}
    log = (home / "query.log").open("w")
    process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 180
    while True:
        try:
            DIRECT.open(urllib.request.Request(f"{address}/-/ready"), timeout=5).read()
            break
        except OSError:
            assert process.poll() is None, (home / "query.log").read_text()
            assert time.monotonic() < deadline, (home / "query.log").read_text()
            time.sleep(0.2)
    yield address
    process.terminate()
    process.wait(30)
    log.close()


@pytest.mark.parametrize("name", sorted(path.stem for path in NOTEBOOKS.glob("*.py")))
def test_a_notebook_runs_from_top_to_end_and_draws(service, name, monkeypatch):
    import matplotlib.pyplot as plt

    monkeypatch.setenv("VARVE_URL", service)
    monkeypatch.setenv("VARVE_METRIC", METRIC[name])
    plt.switch_backend("agg")

    found = runpy.run_path(str(NOTEBOOKS / f"{name}.py"))

    figures = [plt.figure(number) for number in plt.get_fignums()]
    assert figures
    for figure in figures:
        figure.canvas.draw()
        assert all(len(axes.lines) > 0 for axes in figure.axes)
    plt.close("all")
    if name == "2_anomaly_review":
        assert len(found["tuning"]) == 5
        assert np.diff(found["tuning"]["episodes"]).max() <= 0, "stricter tells of no more"
    if name == "3_capacity":
        assert found["resources"]["state"].tolist() == ["firing"]
    if name == "4_own_model":
        assert set(found["compared"]["model"]) >= {"ridge", "seasonal naive"}


def test_every_notebook_is_of_those_that_run_here():
    assert {path.stem for path in NOTEBOOKS.glob("*.py")} == METRIC.keys()
