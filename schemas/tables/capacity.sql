CREATE TABLE capacity (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  threshold DOUBLE NOT NULL COMMENT 'Level at which the resource runs out; NaN if there is none at present. Unit of the metric.',
  reaches_at BIGINT COMMENT 'When the forecast first reaches the threshold; NULL if not within the horizon. Milliseconds since the Unix epoch, UTC.',
  earliest_at BIGINT COMMENT 'When the near bound of the forecast interval first reaches the threshold; NULL if not within the horizon. Milliseconds since the Unix epoch, UTC.',
  horizon_ms BIGINT NOT NULL COMMENT 'How far ahead the forecast looked. Milliseconds, above 0.',
  trained_until BIGINT NOT NULL COMMENT 'End of the training data, inclusive. Milliseconds since the Unix epoch, UTC.',
  resource STRING NOT NULL COMMENT 'Name of the resource in capacity.toml.',
  reached STRING NOT NULL COMMENT 'above or below: on which side of the threshold the resource has run out.',
  value DOUBLE NOT NULL COMMENT 'Mean of the last hour. Unit of the metric.',
  probability DOUBLE NOT NULL COMMENT 'Probability that the threshold is reached within the horizon, if errors are as in the backtest.',
  state STRING NOT NULL COMMENT 'firing where reaches_at is there, pending where only earliest_at is, else clear.',
  since BIGINT NOT NULL COMMENT 'Since when it has had this state. Milliseconds since the Unix epoch, UTC.',
  evaluated_at BIGINT NOT NULL COMMENT 'End of the last hour there was when it was judged. Milliseconds since the Unix epoch, UTC. Of two rows of one (series_id, resource) the later counts.',
  reason STRING NOT NULL COMMENT 'Why there is no threshold; else empty.'
) USING DELTA
COMMENT 'When a resource runs out, by its forecast. Append only. One writer: jobs/forecast.py.'
TBLPROPERTIES ('varve.time_column' = 'evaluated_at')
