CREATE TABLE forecast_fits (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  trained_until BIGINT NOT NULL COMMENT 'End of the last hour of its history, inclusive. Milliseconds since the Unix epoch, UTC.',
  fitted_at BIGINT NOT NULL COMMENT 'End of the last hour there was for any series. Milliseconds since the Unix epoch, UTC. Of two rows of one series the later counts.',
  status STRING NOT NULL COMMENT 'forecast, skipped (too little history, or ended) or failed.',
  reason STRING NOT NULL COMMENT 'Why it was skipped or failed, or why a model was not tried; else empty.',
  model STRING NOT NULL COMMENT 'Model that was chosen, and its version; empty unless forecast.',
  hours INT NOT NULL COMMENT 'Number of hours of history that have a value. At least 0.',
  mae DOUBLE COMMENT 'Mean absolute error of the chosen model in the backtest; NULL without one. Unit of the metric.',
  mase DOUBLE COMMENT 'The same as a share of the mean difference from a day before: below 1 it is better than that. No unit.',
  mape DOUBLE COMMENT 'Mean absolute error as a share of the values; NULL where one is 0. No unit.',
  coverage DOUBLE COMMENT 'Share of hours inside the interval that other origins of the backtest give. 0 to 1.',
  naive_mase DOUBLE COMMENT 'mase of seasonal naive; a share.',
  prophet_mase DOUBLE COMMENT 'mase of Prophet; a share.',
  seconds DOUBLE NOT NULL COMMENT 'Seconds that all fits of the series took.'
) USING DELTA
COMMENT 'What became of each series that was to be forecast: the model, how good it was on hours it did not know, or why there is none. Append only. One writer: jobs/forecast.py.'
TBLPROPERTIES ('varve.time_column' = 'fitted_at')
