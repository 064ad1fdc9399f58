# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Plan capacity
#
# Which resources run out within the week, and what their forecasts look like. `capacity.toml` selects them.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd

from varve.client.query import Query

varve = Query(os.environ.get("VARVE_URL", "http://127.0.0.1:9690"))

# %% [markdown]
# ## What runs out, the most urgent first

# %%
resources = varve.sql(
    """SELECT resource, series_id, metric, CAST(tags AS VARCHAR) AS series, value, threshold, reached, state,
              probability, (reaches_at - evaluated_at) / 86400000.0 AS days_left,
              (earliest_at - evaluated_at) / 86400000.0 AS at_the_earliest
       FROM (SELECT *, row_number() OVER (PARTITION BY series_id, resource ORDER BY evaluated_at DESC) AS place
             FROM capacity) JOIN series USING (series_id)
       WHERE place = 1 ORDER BY days_left NULLS LAST, probability DESC"""
).to_pandas()
resources.drop(columns="series_id")

# %% [markdown]
# ## How good the models were on hours they did not know
#
# `mase` is the error as a share of what the day before would have been off; `coverage` should be near 0.8.

# %%
fits = varve.sql(
    """SELECT CAST(tags AS VARCHAR) AS series, metric, status, model, hours, naive_mase, prophet_mase, mape, coverage, reason
       FROM (SELECT *, row_number() OVER (PARTITION BY series_id ORDER BY fitted_at DESC) AS place FROM forecast_fits)
       JOIN series USING (series_id) WHERE place = 1 ORDER BY ALL"""
).to_pandas()
fits

# %% [markdown]
# ## The past, the week to come with its 80 % interval, and the threshold

# %%
shown = resources.head(4)
assert len(shown), "nothing is forecast yet: capacity.toml selects what is, once it has two days of hours"
figure, grid = plt.subplots(len(shown), figsize=(11, 3 * len(shown)), squeeze=False)
for axes, (_, row) in zip(grid[:, 0], shown.iterrows(), strict=True):
    past = varve.sql(
        f"SELECT window_end, avg FROM metrics_1h WHERE series_id = {row['series_id']} AND count > 0 ORDER BY window_end"
    ).to_pandas()
    ahead = varve.sql(
        f"""SELECT ts, value, lower, upper FROM forecasts WHERE series_id = {row["series_id"]}
            AND trained_until = (SELECT max(trained_until) FROM forecasts WHERE series_id = {row["series_id"]})
            ORDER BY ts"""
    ).to_pandas()
    past["window_end"] = pd.to_datetime(past["window_end"], utc=True)
    times = pd.to_datetime(ahead["ts"], unit="ms", utc=True)
    axes.plot(past["window_end"], past["avg"], label="measured")
    axes.plot(times, ahead["value"], label="forecast")
    axes.fill_between(times, ahead["lower"], ahead["upper"], alpha=0.25, label="80 % interval")
    axes.axhline(row["threshold"], color="tab:red", linestyle="--", label="threshold")
    left = "over 7" if pd.isna(row["days_left"]) else f"{row['days_left']:.1f}"
    axes.set_title(f"{row['resource']}: {row['series']}, days left: {left}", fontsize="medium")
    axes.legend(loc="upper left", fontsize="small")
figure.tight_layout()
