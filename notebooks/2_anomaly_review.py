# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Review anomalies, and tune what is told
#
# Episodes of one metric with their band, and what precision and recall other thresholds would have had by what
# you know of incidents. Name these in `INCIDENTS` (or label episodes by `varve anomalies label`).

# %%
import os

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from varve.anomaly.episodes import Deviation, fold
from varve.anomaly.rules import Rule
from varve.client.query import Query

varve = Query(os.environ.get("VARVE_URL", "http://127.0.0.1:9690"))
metric = os.environ.get("VARVE_METRIC", "shop_queue_depth")

# %% [markdown]
# ## Episodes

# %%
episodes = varve.sql(
    f"""SELECT episode_id, series_id, arg_max(state, turn) AS state, min(starts_at) AS starts_at,
               max(last_at) AS last_at, max(windows) AS minutes, arg_max(score, abs(score)) AS score
        FROM episodes JOIN series USING (series_id) WHERE metric = '{metric}'
        GROUP BY ALL ORDER BY starts_at"""
).to_pandas()
for column in ("starts_at", "last_at"):
    episodes[column] = pd.to_datetime(episodes[column], unit="ms", utc=True)
episodes

# %% [markdown]
# ## Minutes, their baseline and its band of three standard deviations

# %%
minutes = varve.sql(
    f"""WITH usual AS (
          SELECT series_id, season, hour_of_week, mean, stddev,
                 row_number() OVER (PARTITION BY series_id, hour_of_week ORDER BY method DESC) AS place
          FROM baselines
        ),
        judged AS (
          SELECT m.series_id, CAST(m.tags AS VARCHAR) AS series, m.window_end, m.avg AS value,
                 (CAST(m.window_end_ms / 3600000 AS BIGINT) + 71) % 168 AS hour
          FROM metrics_1m AS m WHERE metric = '{metric}' AND m.count > 0
        )
        SELECT j.series_id, j.series, j.window_end, j.value, coalesce(s.mean, r.mean) AS mean,
               coalesce(s.stddev, r.stddev) AS stddev
        FROM judged AS j
        JOIN usual AS r ON r.series_id = j.series_id AND r.hour_of_week = -1 AND r.place = 1
        LEFT JOIN usual AS s ON s.series_id = j.series_id AND s.place = 1
         AND s.hour_of_week = CASE s.season WHEN 'day' THEN j.hour % 24 WHEN 'week' THEN j.hour END
        ORDER BY j.series_id, j.window_end"""
).to_pandas()
minutes["window_end"] = pd.to_datetime(minutes["window_end"], utc=True)
assert len(minutes), f"{metric} has no baseline yet: name another with VARVE_METRIC"
minutes["stddev"] = np.maximum(minutes["stddev"], 0.001 * minutes["mean"].abs()).replace(0, np.nan)
minutes["score"] = ((minutes["value"] - minutes["mean"]) / minutes["stddev"]).fillna(0)

names = minutes["series_id"].unique()[:4]
figure, grid = plt.subplots(len(names), figsize=(11, 2.6 * len(names)), squeeze=False)
for axes, series_id in zip(grid[:, 0], names, strict=True):
    part = minutes[minutes["series_id"] == series_id]
    band = 3 * part["stddev"]
    axes.fill_between(part["window_end"], part["mean"] - band, part["mean"] + band, alpha=0.25, label="usual")
    axes.plot(part["window_end"], part["value"], linewidth=0.7, label=metric)
    for _, episode in episodes[episodes["series_id"] == series_id].iterrows():
        axes.axvspan(episode["starts_at"], episode["last_at"], color="tab:red", alpha=0.3)
    axes.set_title(f"{metric} {part['series'].iloc[0]}; red: episodes", fontsize="medium")
    axes.legend(loc="upper left", fontsize="small")
figure.autofmt_xdate()
figure.tight_layout()

# %% [markdown]
# ## Thresholds
#
# Every threshold is tried on the same minutes, with the same fold that the stream uses, but without the tails of each
# series: as a rule with `adaptive = false` would tell. An incident is found if an episode overlaps it; an episode without
# one is false.

# %%
# Spans of real incidents, UTC. Empty: what was told as critical is taken for real.
INCIDENTS: list[tuple[str, str]] = []

truth = [tuple(map(pd.Timestamp, span)) for span in INCIDENTS] or [
    (row["starts_at"], row["last_at"]) for _, row in episodes.iterrows() if abs(row["score"]) > 8
]


def told(threshold: float, extreme: float) -> list[tuple[pd.Timestamp, pd.Timestamp]]:
    """Episodes that these thresholds would have told of."""
    rule, found = Rule(threshold=threshold, extreme=extreme), []
    for series_id, part in minutes.groupby("series_id"):
        far = part[part["score"].abs() > threshold]
        ends = far["window_end"].dt.as_unit("ms").astype("int64")
        deviations = [
            Deviation(int(end), value, mean, score, 0)
            for end, value, mean, score in zip(ends, far["value"], far["mean"], far["score"], strict=True)
        ]
        whole, _ = fold(int(series_id), deviations, 2**60, rule)
        found += [(pd.Timestamp(e.starts_at, unit="ms", tz="UTC"), pd.Timestamp(e.last_at, unit="ms", tz="UTC")) for e in whole]
    return found


rows = []
for threshold in (3, 4, 5, 6, 8):
    spans = told(threshold, max(8, threshold))
    hits = [any(s <= end and e >= begin for s, e in spans) for begin, end in truth]
    good = [any(s <= end and e >= begin for begin, end in truth) for s, e in spans]
    precision = float(np.mean(good)) if good else 1.0
    recall = float(np.mean(hits)) if hits else float("nan")
    rows.append({"threshold": threshold, "episodes": len(spans), "precision": precision, "recall": recall})
tuning = pd.DataFrame(rows)
tuning

# %% [markdown]
# Write the one you choose as a rule of `anomalies.toml` in the home; it is in force with the next minute.
#
#     [rule.queues]
#     match = { __name__ = "shop_queue_depth" }
#     threshold = 5
