CREATE TABLE anomalies (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  window_end BIGINT NOT NULL COMMENT 'End of the 1m window that was judged, inclusive. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE NOT NULL COMMENT 'Mean of the window, or growth per second of a counter; NaN: there was no sample where there should be. Unit of the metric, per second for a counter.',
  expected DOUBLE NOT NULL COMMENT 'Mean of the baseline. Unit of the metric, per second for a counter.',
  stddev DOUBLE NOT NULL COMMENT 'Standard deviation of the baseline, or the floor in its place. Unit of the metric, per second for a counter; above 0.',
  score DOUBLE NOT NULL COMMENT '(value - expected) / stddev; -5 for a window without a sample. No unit.',
  revision BIGINT NOT NULL COMMENT 'Version of rollup_1m that the value was read from. Of two rows of one (series_id, window_end) the greater revision counts.',
  detected_at BIGINT NOT NULL COMMENT 'When the window was judged. Milliseconds since the Unix epoch, UTC.',
  is_deviation BOOLEAN NOT NULL COMMENT 'Whether score is beyond the threshold of the rule. False restates a window that a repair has brought back.',
  rule STRING NOT NULL COMMENT 'Name of the rule in anomalies.toml that judged it; default for none.',
  baseline_at BIGINT NOT NULL COMMENT 'computed_at of the baseline it was judged by. Milliseconds since the Unix epoch, UTC.',
  opens_beyond DOUBLE COMMENT 'Score, without its sign, that windows in a row have to be beyond for an episode to open. At least the threshold of the rule, which it is where NULL.',
  extreme_beyond DOUBLE COMMENT 'The same of a single window. At least extreme of the rule, which it is where NULL.',
  interval_ms BIGINT COMMENT 'Time from one number of the series to the next, by its baseline: windows so far apart are in a row. Milliseconds; NULL is a minute.'
) USING DELTA
COMMENT 'Windows far from their baseline. Append only: a repaired window that was or is one is judged again with a higher revision. One writer: jobs/detect_anomalies.py.'
TBLPROPERTIES ('varve.time_column' = 'window_end')
