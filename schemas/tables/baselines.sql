CREATE TABLE baselines (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  hour_of_week INT NOT NULL COMMENT 'Hour of the week in UTC, Monday 00:00 first, 0 to 167, for season week; hour of any day, 0 to 23, for season day; -1 for season none.',
  mean DOUBLE NOT NULL COMMENT 'What is expected of a minute of that hour: mean of the minutes, or for method median the median of the means of hours. Unit of the metric, per second for a counter.',
  stddev DOUBLE NOT NULL COMMENT 'Population standard deviation of the minutes; of a season what is between the days of an hour is drawn to that of all hours; for method median what stands for it. Unit of the metric, per second for a counter; at least 0.',
  count BIGINT NOT NULL COMMENT 'Number of minutes that mean and stddev were computed from. At least 1.',
  computed_at BIGINT NOT NULL COMMENT 'End of the data read, inclusive. Milliseconds since the Unix epoch, UTC. Of two rows for one hour the later counts.',
  season STRING NOT NULL COMMENT 'none, day or week: what hour_of_week means. Every series has its row of season none and method mean, over seven days.',
  method STRING NOT NULL COMMENT 'mean, or median where a few hours would poison the mean.',
  is_rate BOOLEAN NOT NULL COMMENT 'Whether growth per second is judged, as of a counter, and not the value.',
  error DOUBLE COMMENT 'Mean absolute error of this season on hours held out of it; NULL with less than two days of history. Unit of the metric, per second for a counter.',
  revision BIGINT NOT NULL COMMENT 'Version of the table features that it was computed from.',
  interval_ms BIGINT COMMENT 'Time from one number of the series to the next, over its last seven days. Milliseconds, a minute to six hours. NULL in rows of an earlier release, as all that follows: a minute.',
  spans_zero BOOLEAN COMMENT 'Whether 0 was among the numbers of the last seven days, or between them.',
  held_above DOUBLE COMMENT 'How far above what is expected three numbers in a row are, by the history of the series, in one of 20,000 hours. In standard deviations; NULL where too little is known.',
  held_below DOUBLE COMMENT 'The same below.',
  extreme_above DOUBLE COMMENT 'How far above a single number is in one of 20,000 hours. In standard deviations; NULL where too little is known.',
  extreme_below DOUBLE COMMENT 'The same below.'
) USING DELTA
COMMENT 'What is expected of each series, by hour where it has a season. A run of the job appends all rows anew, then drops those of the run before. One writer: jobs/baseline.py.'
TBLPROPERTIES ('varve.time_column' = 'computed_at')
