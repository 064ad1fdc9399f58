CREATE TABLE features (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  window_end BIGINT NOT NULL COMMENT 'End of the hour, inclusive: (window_end - 1h, window_end]. Milliseconds since the Unix epoch, UTC; a multiple of an hour.',
  is_rate BOOLEAN NOT NULL COMMENT 'Whether the minutes are growth per second, as of a counter, and not means of values.',
  minutes INT NOT NULL COMMENT 'Number of minutes of the hour that have a number. 1 to 60; an hour without any has no row, or 0 where a repair has left none.',
  mean DOUBLE NOT NULL COMMENT 'Mean of the numbers of the minutes. Unit of the metric, per second for a counter.',
  m2 DOUBLE NOT NULL COMMENT 'Sum of (number - mean)^2 over the minutes. Unit of the metric squared, at least 0.',
  low DOUBLE NOT NULL COMMENT 'Least number of a minute. Unit of the metric, per second for a counter.',
  high DOUBLE NOT NULL COMMENT 'Greatest number of a minute. Unit of the metric, per second for a counter.',
  resets BIGINT NOT NULL COMMENT 'Drops between neighbouring samples inside the minutes, as of a counter that began anew. At least 0.',
  revision BIGINT NOT NULL COMMENT 'Version of rollup_1m that the row was computed from. Of two rows of one (series_id, window_end) the greater revision counts.',
  held_low DOUBLE COMMENT 'Least number that three minutes in a row were all at or below; NULL with fewer minutes, and in rows of an earlier release. Unit of the metric, per second for a counter.',
  held_high DOUBLE COMMENT 'Greatest number that three minutes in a row were all at or above; NULL as held_low. Unit of the metric, per second for a counter.'
) USING DELTA
COMMENT 'What each hour of a series was like, minute by minute: all that baselines are computed from. Append only: a repaired hour is appended again with a higher revision. One writer: jobs/baseline.py.'
TBLPROPERTIES ('varve.time_column' = 'window_end')
