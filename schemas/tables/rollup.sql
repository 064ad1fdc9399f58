CREATE TABLE rollup_{tier} (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  window_end BIGINT NOT NULL COMMENT 'End of the window, inclusive: the window is (window_end - {tier}, window_end]. Milliseconds since the Unix epoch, UTC; a multiple of {tier}.',
  count BIGINT NOT NULL COMMENT 'Samples with a value, NaN included, staleness markers not. At least 0.',
  nan_count BIGINT NOT NULL COMMENT 'Samples that are NaN. 0 to count.',
  sum DOUBLE NOT NULL COMMENT 'Sum of the values that are not NaN; the exact sum is sum + sum_error up to rounding. Infinite or NaN with infinite values, and infinite beyond the greatest double. Unit of the metric.',
  sum_error DOUBLE NOT NULL COMMENT 'Compensation of sum (Neumaier); where sum is infinite while min and max are not, the sum times 2^-64. Unit of the metric.',
  min DOUBLE COMMENT 'Least value that is not NaN; NaN if all are; NULL if count is 0. Unit of the metric.',
  max DOUBLE COMMENT 'Greatest value that is not NaN; NaN if all are; NULL if count is 0. Unit of the metric.',
  m2 DOUBLE NOT NULL COMMENT 'Sum of (value - first number)^2 over the values that are not NaN, the first number being base. NaN with infinite values, infinite beyond the greatest double. Unit of the metric, squared.',
  base DOUBLE COMMENT 'First value of the window that is not NaN, about which m2 is taken; NULL if there is none. Unit of the metric.',
  first_ts BIGINT COMMENT 'Time of the first sample with a value; NULL if count is 0. In the window. Milliseconds since the Unix epoch, UTC.',
  first_value DOUBLE COMMENT 'Value of the first sample with a value. Unit of the metric.',
  previous_ts BIGINT COMMENT 'Time of the last but one sample with a value; NULL if count is under 2. Milliseconds since the Unix epoch, UTC.',
  previous_value DOUBLE COMMENT 'Value of the last but one sample with a value. Unit of the metric.',
  last_ts BIGINT COMMENT 'Time of the last sample with a value; NULL if count is 0. In the window. Milliseconds since the Unix epoch, UTC.',
  last_value DOUBLE COMMENT 'Value of the last sample with a value. Unit of the metric.',
  reset_correction DOUBLE NOT NULL COMMENT 'Sum of the value before each drop inside the window: growth of a counter is last - first + this. Unit of the metric.',
  resets BIGINT NOT NULL COMMENT 'Drops between neighbouring samples inside the window. 0 to count - 1.',
  changes BIGINT NOT NULL COMMENT 'Steps between neighbouring samples inside the window whose values differ; NaN equals NaN. 0 to count - 1.',
  stale_ts BIGINT COMMENT 'Time of the last staleness marker in the window, NULL if none. Milliseconds since the Unix epoch, UTC.',
  sketch ARRAY<STRUCT<key: INT, count: BIGINT>> COMMENT 'Sparse exponential histogram of the values that are not NaN, by ascending key, counts at least 1. Key 0 is the value 0; 40000 + i holds (g^(i-1), g^i], g = 2^(1/32); -(40000 + i) mirrors it; 100000 and -100000 are the infinities.',
  revision BIGINT NOT NULL COMMENT 'Version of the table below that the row was computed from. Of two rows of one (series_id, window_end) the greater revision counts.'
) USING DELTA
COMMENT 'Rollup of {tier} windows, append only: a late sample appends its window again with a higher revision. Every row is a function of the samples in its window. One writer: jobs/rollup.py.'
TBLPROPERTIES ('varve.time_column' = 'window_end')
