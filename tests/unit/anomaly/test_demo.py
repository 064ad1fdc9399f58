"""What the jobs find in the generated shop of `make demo`, by rules and resources as shipped."""

import numpy as np

from tests.tables import WrittenTables
from varve.anomaly.baseline_job import Baselines
from varve.anomaly.detector import Detector
from varve.anomaly.episode_rows import named_series, newest_episodes
from varve.anomaly.judge import judge
from varve.anomaly.rules import parse as parse_rules
from varve.collectors.demo import BURST, history
from varve.forecast.forecast_job import Forecasting, fit_here
from varve.forecast.report import capacity_report
from varve.forecast.resources import parse as parse_resources
from varve.local.findings import Findings
from varve.maintenance.batch_job import execute
from varve.model.clock import ManualClock
from varve.model.resources import conf_dir
from varve.settings.demo import Demo
from varve.storage.snapshot import snapshot

HOUR, DAY = 3_600_000, 86_400_000
END = 1_795_392_000_000 + 15 * HOUR
METRICS = {
    "process_open_fds",
    "shop_queue_depth",
    "shop_temperature_celsius",
    "shop_disk_used_bytes",
    "shop_disk_size_bytes",
}


def test_the_burst_is_an_episode_of_each_series_it_is_in_and_a_disk_runs_out(tmp_path):
    demo = Demo()
    shop = history(END, days=demo.days, interval_s=60, seed=demo.seed)
    series = [one for one in shop.series if one.definition.metric in METRICS]
    tables = WrittenTables(str(tmp_path))
    tables.define([one.definition for one in series])
    rows = [
        (one.definition.series_id, ts, value)
        for one in series
        for ts, value in zip(shop.ts_ms.tolist(), one.values.tolist(), strict=True)
    ]
    tables.put(rows, complete_ms=END)
    tables.roll_up()
    execute(Baselines(tables.store), tables.store, 0)
    rules = parse_rules((conf_dir() / "anomalies.toml").read_text(), "anomalies.toml")
    resources = parse_resources((conf_dir() / "capacity.toml").read_text(), "capacity.toml")

    detector = Detector(
        tables.store, lambda: rules, lambda tasks: [judge(t) for t in tasks], ManualClock(END)
    )
    while detector.step() is not None:
        pass
    execute(Forecasting(tables.store, resources, fit_here, lambda _: None), tables.store, 0)

    told = newest_episodes(snapshot(tables.store, "episodes"))
    names = named_series(tables.store, (row["series_id"] for row in told))
    midnight = END - END % DAY
    in_burst = [
        row for row in told if midnight + BURST[0] - HOUR < row["starts_at"] <= midnight + BURST[1]
    ]
    assert sorted(names[row["series_id"]][0] for row in in_burst) == [
        *["process_open_fds"] * 2,
        *["shop_queue_depth"] * 3,
    ]
    assert all(abs(row["score"]) > 8 for row in in_burst)
    assert len(told) - len(in_burst) <= 1, "of days in which nothing else happens"
    firing = {line.series: line for line in capacity_report(tables.store, END)}
    (disk,) = (line for name, line in firing.items() if 'volume="data"' in name)
    assert disk.state == "firing"
    full = 0.95 * 500 * 2**30
    used = next(one for one in series if dict(one.definition.tags).get("volume") == "data")
    slope = np.polyfit(shop.ts_ms, used.values, 1)
    assert abs(disk.reaches_at - (full - slope[1]) / slope[0]) < 12 * HOUR
    said = []
    findings = Findings(tables.store, ManualClock(END), "http://here/", said.append)
    findings.look()
    findings.look()
    assert findings.complete
    unusual, forecast = said
    assert unusual.startswith("Unusual: shop_queue_depth{")
    assert unusual.endswith("Z on: http://here/anomalies")
    assert forecast.startswith(f"Forecast: {disk.series} runs out in {disk.days_left:.1f} days")
