"""Forecasts as series stand at the hour they were made; the rules of the document ask for them."""

import math
import re
from pathlib import Path

import numpy as np
import pyarrow as pa

from varve.forecast.published import capacity_samples, forecast_samples
from varve.rules.rule_file import parse_rule_file

HOUR, DAY = 3_600_000, 86_400_000
AT = 1_795_392_000_000
NAMED = {1: ("disk", {"volume": "data", "quantile": "theirs"})}
DOCUMENT = Path(__file__).parents[3] / "docs" / "forecasting.md"


def labels(sample):
    return sample.series.metric, dict(sample.series.tags)


def test_each_day_ahead_has_three_quantiles_at_the_hour_it_was_known():
    ts = AT + HOUR * np.arange(1, 168)
    rows = pa.table({"ts": ts, "value": ts * 1.0, "lower": ts - 1.0, "upper": ts + 1.0})

    found = list(forecast_samples({1: rows, 2: rows}, NAMED, AT))

    assert len(found) == 6 * 3, "the last hour of the seventh day is not forecast any more"
    assert {sample.ts_ms for sample in found} == {AT}
    name, tags = labels(found[0])
    assert (name, tags["metric"], tags["volume"]) == ("varve_forecast", "disk", "data")
    by_label = {(t["ahead"], t["quantile"]): s.value for s in found for t in [labels(s)[1]]}
    assert by_label["2d", "0.5"] == AT + 2 * DAY
    assert by_label["2d", "0.1"] == AT + 2 * DAY - 1


def test_what_does_not_run_out_has_forever():
    rows = [
        {"series_id": 1, "resource": "a", "reaches_at": AT + 3 * DAY // 2, "probability": 0.9},
        {"series_id": 1, "resource": "b", "reaches_at": None, "probability": 0.1},
        {"series_id": 9, "resource": "b", "reaches_at": None, "probability": 0.1},
    ]
    found = {
        (s.series.metric, dict(s.series.tags)["resource"]): s.value
        for s in capacity_samples(rows, NAMED, AT)
    }
    assert found == {
        ("varve_capacity_days_left", "a"): 1.5,
        ("varve_capacity_probability", "a"): 0.9,
        ("varve_capacity_days_left", "b"): math.inf,
        ("varve_capacity_probability", "b"): 0.1,
    }


def test_the_rules_of_the_document_are_well_formed():
    (text,) = re.findall(
        r"^```yaml rules\n(.*?)^```", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE
    )
    (group,) = parse_rule_file(text, "docs")
    assert len(group.rules) == 2
