# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # A model of your own, on the same backtest
#
# A model is a function of a history that gives the next week's hours. It is fitted to the hours before each of three
# origins and judged by those after it, beside Prophet and seasonal naive.

# %%
import os
from functools import partial

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from varve.client.query import Query
from varve.forecast import prophet_model, seasonal_naive
from varve.forecast.backtest import backtest
from varve.forecast.hourly import HORIZON, Hourly

varve = Query(os.environ.get("VARVE_URL", "http://127.0.0.1:9690"))
metric = os.environ.get("VARVE_METRIC", "shop_disk_used_bytes")

# %% [markdown]
# ## The history of each series, hour by hour

# %%
hours = varve.sql(
    f"""SELECT CAST(tags AS VARCHAR) AS series, window_end_ms, avg FROM metrics_1h
        WHERE metric = '{metric}' AND count > 0 ORDER BY series, window_end_ms"""
).to_pandas()
histories = {}
for name, part in hours.groupby("series"):
    at = (part["window_end_ms"].to_numpy() - part["window_end_ms"].iloc[0]) // 3_600_000
    grid = np.full(int(at[-1]) + 1, np.nan)
    grid[at] = part["avg"]
    histories[name] = Hourly(int(part["window_end_ms"].iloc[-1]), grid)
assert histories, f"no hour of {metric} has closed yet: name another with VARVE_METRIC"

# %% [markdown]
# ## A model: ridge regression on a line and the waves of the day and the week


# %%
def waves(hour: np.ndarray) -> np.ndarray:
    """A row for each hour: constant, line, and waves of 24 and 168 hours."""
    columns = [np.ones(len(hour)), hour / 168]
    for period, order in ((24, 3), (168, 3)):
        for k in range(1, order + 1):
            angle = 2 * np.pi * k * hour / period
            columns += [np.sin(angle), np.cos(angle)]
    return np.stack(columns, axis=1)


def ridge(history: Hourly, penalty: float = 1.0) -> np.ndarray:
    """The next HORIZON hours."""
    hour = history.ends / 3_600_000 - history.end_ms / 3_600_000
    known = ~np.isnan(history.values)
    level = history.values[known].mean()
    x, y = waves(hour[known]), history.values[known] - level
    shrink = penalty * np.eye(x.shape[1])
    shrink[:2, :2] = 0  # neither the constant nor the line
    weights = np.linalg.solve(x.T @ x + shrink, x.T @ y)
    return level + waves(np.arange(1.0, HORIZON + 1)) @ weights


models = {"seasonal naive": seasonal_naive.forecast, "ridge": ridge}
try:
    prophet_model.version()
    models["prophet"] = partial(prophet_model.forecast, seed=1)
except prophet_model.NotInstalled as err:
    print(err)

# %% [markdown]
# ## All of them on the same hours

# %%
rows = []
for name, history in histories.items():
    for model, forecast in models.items():
        result = backtest(history, forecast)
        if result is not None:
            rows.append(
                {"series": name, "model": model, "mase": result.mase, "mape": result.mape, "coverage": result.coverage}
            )
compared = pd.DataFrame(rows)
assert len(compared), f"{metric} has too short a history for a backtest: three days at least"
compared.pivot_table(index="series", columns="model", values="mase").round(2)

# %%
name, history = next(iter(histories.items()))
figure, axes = plt.subplots(figsize=(11, 4))
axes.plot(pd.to_datetime(history.ends, unit="ms"), history.values, color="gray", label="measured")
for model, forecast in models.items():
    axes.plot(pd.to_datetime(history.ahead, unit="ms"), forecast(history), label=model)
axes.set(title=f"{metric} {name}: a week ahead", xlabel="UTC")
axes.legend()
figure.autofmt_xdate()
