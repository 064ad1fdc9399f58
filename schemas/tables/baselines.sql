CREATE TABLE baselines (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  hour_of_week INT NOT NULL COMMENT 'Hour of the week in UTC, Monday 00:00 first. 0 to 167.',
  mean DOUBLE NOT NULL COMMENT 'Mean of the values of that hour. Unit of the metric.',
  stddev DOUBLE NOT NULL COMMENT 'Population standard deviation of the values of that hour. Unit of the metric, at least 0.',
  count BIGINT NOT NULL COMMENT 'Samples that mean and stddev were computed from. At least 1.',
  computed_at BIGINT NOT NULL COMMENT 'End of the data read, inclusive. Milliseconds since the Unix epoch, UTC. Of two rows for one hour the later counts.'
) USING DELTA
COMMENT 'What a series looks like at each hour of the week. Append only. One writer: jobs/detect_anomalies.py.'
TBLPROPERTIES ('varve.time_column' = 'computed_at')
