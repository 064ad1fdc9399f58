CREATE TABLE quarantine (
  query STRING NOT NULL COMMENT 'Ingest query that refused the record: bulk or critical.',
  topic STRING NOT NULL COMMENT 'Kafka topic of the message.',
  partition INT NOT NULL COMMENT 'Kafka partition of the message, from 0.',
  offset BIGINT NOT NULL COMMENT 'Kafka offset of the message, from 0.',
  ts BIGINT COMMENT 'Kafka timestamp of the message. Milliseconds since the Unix epoch, UTC.',
  reason STRING NOT NULL COMMENT 'Why it was refused: a member of varve.ingest.reject_reasons.',
  detail STRING NOT NULL COMMENT 'What exactly was wrong, for a person.',
  samples BIGINT NOT NULL COMMENT 'Samples refused by this row; 1 for a message that cannot be read at all. At least 1.',
  value BINARY COMMENT 'What was refused, as a message that can be sent again: the whole message, the refused part of it, or the refused samples as Arrow IPC. NULL where a count is all that is kept: for a limit beyond its examples, and beyond ingest.reject_bytes, with the offsets in detail.',
  rejected_at BIGINT NOT NULL COMMENT 'When it was refused. Milliseconds since the Unix epoch, UTC.',
  headers ARRAY<STRUCT<name: STRING, value: BINARY>> COMMENT 'Headers of the message that value must be read with, in their order: without content-encoding where value is a decoded part. NULL in rows of releases that did not keep them.',
  series_ids ARRAY<BIGINT> COMMENT 'For unknown_series: the series of the refused samples, each once, ascending. NULL for every other reason.'
) USING DELTA
COMMENT 'What ingest could not store, with the reason. Append only. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'rejected_at')
