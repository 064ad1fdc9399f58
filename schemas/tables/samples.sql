CREATE TABLE samples (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series: 12 bits of a hash of the metric name, then 52 bits of a hash of name{k="v",...}. Signed 64 bits.',
  ts BIGINT NOT NULL COMMENT 'Time of the sample. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE COMMENT 'In the unit of the metric (series.unit). NULL is a staleness marker: the series ended at ts. NaN is a value; -0.0 is stored as 0.0. NULL, too, where scaled is not: read the view raw, which has the value in either form.',
  scaled BIGINT COMMENT 'In files of past hours, in place of value: value = (scaled + shift) / divisor, exactly, by one addition of BIGINT and one division of DOUBLE.',
  shift BIGINT COMMENT 'Is added to scaled; one number for each series of a file. NULL where scaled is.',
  divisor DOUBLE COMMENT 'Divides the sum; a power of ten or of two. NULL where scaled is.'
) USING DELTA
COMMENT 'Raw samples, append only. May hold copies of one (series_id, ts) until compaction; the view raw never does. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'ts', 'varve.layout_columns' = 'scaled,shift,divisor')
