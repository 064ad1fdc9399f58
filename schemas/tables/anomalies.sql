CREATE TABLE anomalies (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  window_end BIGINT NOT NULL COMMENT 'End of the 1m window that was judged, inclusive. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE NOT NULL COMMENT 'Mean of the window. Unit of the metric.',
  expected DOUBLE NOT NULL COMMENT 'Mean of the baseline. Unit of the metric.',
  stddev DOUBLE NOT NULL COMMENT 'Standard deviation of the baseline. Unit of the metric, above 0.',
  score DOUBLE NOT NULL COMMENT '(value - expected) / stddev. No unit.',
  revision BIGINT NOT NULL COMMENT 'Version of rollup_1m that the value was read from.',
  detected_at BIGINT NOT NULL COMMENT 'When the window was judged. Milliseconds since the Unix epoch, UTC.'
) USING DELTA
COMMENT 'Windows far from their baseline. Append only. One writer: jobs/detect_anomalies.py.'
TBLPROPERTIES ('varve.time_column' = 'window_end')
