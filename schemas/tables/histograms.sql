CREATE TABLE histograms (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series, as in samples.',
  ts BIGINT NOT NULL COMMENT 'Time of the histogram. Milliseconds since the Unix epoch, UTC.',
  schema TINYINT COMMENT 'Resolution, at least -4 and at most 8: bucket i of positive counts observations in (base^(i-1), base^i] with base = 2^(2^-schema). -53: custom_values has the bounds. NULL is a staleness marker: the series ended at ts, and every other column is NULL.',
  count DOUBLE COMMENT 'Observations in all, those of NaN included. At least 0.',
  sum DOUBLE COMMENT 'Sum of the observations, in the unit of the metric (series.unit).',
  zero_threshold DOUBLE COMMENT 'Observations from -zero_threshold to zero_threshold are in zero_count. In the unit of the metric.',
  zero_count DOUBLE COMMENT 'Observations in the zero bucket. At least 0.',
  positive STRUCT<offsets: ARRAY<INT>, lengths: ARRAY<INT>, counts: ARRAY<DOUBLE>> COMMENT 'Buckets of positive observations, in spans of neighbours: offsets has the index of the first bucket of the first span, then the buckets left out before each further one; lengths the buckets of each span; counts the observations of each bucket, absolute, as many as lengths say.',
  negative STRUCT<offsets: ARRAY<INT>, lengths: ARRAY<INT>, counts: ARRAY<DOUBLE>> COMMENT 'The same of negative observations, by their absolute value.',
  custom_values ARRAY<DOUBLE> COMMENT 'Upper bounds of custom buckets, ascending, without +Inf; empty for every other schema. In the unit of the metric.',
  reset_hint STRING COMMENT 'What the sender knows of counter resets before it: unknown, reset, not_reset, or gauge for a histogram that is no counter.'
) USING DELTA
COMMENT 'Native histograms, append only. May hold copies of one (series_id, ts) until compaction: the greatest count wins, a staleness marker is least. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'ts')
