CREATE TABLE series (
  series_id BIGINT NOT NULL COMMENT 'Identity used by samples and rollups. Unique together with the first row of it.',
  check INT NOT NULL COMMENT '32 more bits of the hash behind series_id: they tell two series with one id apart.',
  metric STRING NOT NULL COMMENT 'Metric name: non-empty UTF-8.',
  tags MAP<STRING, STRING> NOT NULL COMMENT 'Labels by name, without __name__ and without empty values.',
  type STRING COMMENT 'counter, gauge, histogram, summary, info, stateset or unknown.',
  unit STRING COMMENT 'Unit of the values in base units (seconds, bytes, ...); empty if unknown.',
  help STRING COMMENT 'One line on what the metric measures; empty if unknown.',
  first_seen BIGINT NOT NULL COMMENT 'Time of the earliest sample known at registration. Milliseconds since the Unix epoch, UTC.',
  last_seen BIGINT NOT NULL COMMENT 'The last time the series was known to be alive when it was registered. Later times are in the rollups: the greatest window_end. Milliseconds since the Unix epoch, UTC.'
) USING DELTA
COMMENT 'What each series_id stands for, one row for each series; two for a while if it was registered again. Committed before the first sample of the series, removed after its last row has gone. One writer of rows: jobs/ingest.py.'
