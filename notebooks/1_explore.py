# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
# ---

# %% [markdown]
# # Explore a metric
#
# What there is, what one metric looks like by SQL and by PromQL, and what is usual for it. It asks the query
# service (`varve up`), so it needs no access to the tables. `VARVE_URL` and `VARVE_METRIC` choose others.

# %%
import os

import matplotlib.pyplot as plt
import pandas as pd

from varve.client.query import Query

varve = Query(os.environ.get("VARVE_URL", "http://127.0.0.1:9690"))
metric = os.environ.get("VARVE_METRIC", "shop_queue_depth")

# %% [markdown]
# ## What there is: metrics with most series, and how far their hours reach

# %%
there = varve.sql(
    """SELECT metric, count(DISTINCT series_id) AS series, min(window_start) AS since, max(window_end) AS until
       FROM metrics_1h GROUP BY metric ORDER BY series DESC LIMIT 15"""
).to_pandas()
there

# %% [markdown]
# ## The same hours by SQL, straight from the open tables

# %%
hours = varve.sql(
    f"""SELECT CAST(tags AS VARCHAR) AS series, window_end, avg, min, max FROM metrics_1h
        WHERE metric = '{metric}' AND count > 0 ORDER BY series, window_end"""
).to_pandas()
hours["window_end"] = pd.to_datetime(hours["window_end"], utc=True)
assert len(hours), f"no hour of {metric} has closed yet: name another with VARVE_METRIC"

figure, axes = plt.subplots(figsize=(11, 4))
for name, part in hours.groupby("series"):
    axes.plot(part["window_end"], part["avg"], label=name)
    axes.fill_between(part["window_end"], part["min"], part["max"], alpha=0.15)
axes.set(title=f"{metric}: mean of each hour, between least and greatest", xlabel="UTC")
axes.legend(fontsize="small")
figure.autofmt_xdate()

# %% [markdown]
# ## And by PromQL, answered from the tier that is exact for the step

# %%
end = hours["window_end"].max()
answer = varve.range(
    f"avg_over_time({metric}[1h])", start=end - pd.Timedelta(days=2), end=end, step="1h"
)
promql = answer.to_pandas()
promql.tail()

# %% [markdown]
# Both say the same: the rows of an hour are what the hour's samples give, however they came.

# %%
last = hours[hours["window_end"] == end]["avg"].sort_values().to_numpy()
asked = promql[promql["timestamp"] == end]["value"].sort_values().to_numpy()
assert abs(last - asked).max() < 1e-9 * max(1, abs(last).max())

# %% [markdown]
# ## What is usual: the baseline that was chosen for each series, and by what measured error

# %%
usual = varve.sql(
    f"""SELECT CAST(tags AS VARCHAR) AS series, season, method, count(*) AS slots, min(mean) AS least_mean,
               max(mean) AS greatest_mean, avg(stddev) AS stddev, any_value(error) AS error
        FROM baselines JOIN series USING (series_id) WHERE metric = '{metric}' GROUP BY ALL ORDER BY ALL"""
).to_pandas()
usual
