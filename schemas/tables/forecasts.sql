CREATE TABLE forecasts (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  ts BIGINT NOT NULL COMMENT 'Time the forecast is for. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE NOT NULL COMMENT 'Expected value. Unit of the metric.',
  lower DOUBLE NOT NULL COMMENT 'Lower bound of the interval, inclusive. Unit of the metric.',
  upper DOUBLE NOT NULL COMMENT 'Upper bound of the interval, inclusive. Unit of the metric.',
  coverage DOUBLE NOT NULL COMMENT 'Probability the interval claims. Above 0, below 1.',
  model STRING NOT NULL COMMENT 'Model and its version.',
  trained_until BIGINT NOT NULL COMMENT 'End of the training data, inclusive. Milliseconds since the Unix epoch, UTC. Of two rows of one (series_id, ts) the later counts.'
) USING DELTA
COMMENT 'Forecasts of one week ahead. Append only. One writer: jobs/forecast.py.'
TBLPROPERTIES ('varve.time_column' = 'ts')
