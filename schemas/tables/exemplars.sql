CREATE TABLE exemplars (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series it is an example of, as in samples.',
  ts BIGINT NOT NULL COMMENT 'Time of the example. Milliseconds since the Unix epoch, UTC.',
  value DOUBLE NOT NULL COMMENT 'What was observed, in the unit of the metric (series.unit).',
  labels MAP<STRING, STRING> NOT NULL COMMENT 'What leads to the example, such as trace_id; sorted by name.'
) USING DELTA
COMMENT 'Exemplars: single observations behind a sample, append only. May hold equal rows until compaction. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'ts')
