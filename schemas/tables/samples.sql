CREATE TABLE samples (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series: 12 bits of a hash of the metric name, then 52 bits of a hash of name{k="v",...}. Signed 64 bits.',
  ts BIGINT NOT NULL COMMENT 'Time of the sample. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE COMMENT 'In the unit of the metric (series.unit). NULL is a staleness marker: the series ended at ts. NaN is a value; -0.0 is stored as 0.0.'
) USING DELTA
COMMENT 'Raw samples, append only. May hold copies of one (series_id, ts) until compaction; the view raw never does. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'ts')
