CREATE TABLE capacity (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  threshold DOUBLE NOT NULL COMMENT 'Level at which the resource runs out. Unit of the metric.',
  reaches_at BIGINT COMMENT 'When the forecast first reaches the threshold; NULL if not within the horizon. Milliseconds since the Unix epoch, UTC.',
  earliest_at BIGINT COMMENT 'When the near bound of the forecast interval first reaches the threshold; NULL if not within the horizon. Milliseconds since the Unix epoch, UTC.',
  horizon_ms BIGINT NOT NULL COMMENT 'How far ahead the forecast looked. Milliseconds, above 0.',
  trained_until BIGINT NOT NULL COMMENT 'End of the training data, inclusive. Milliseconds since the Unix epoch, UTC.'
) USING DELTA
COMMENT 'When a resource runs out, by its forecast. Append only. One writer: jobs/forecast.py.'
TBLPROPERTIES ('varve.time_column' = 'trained_until')
