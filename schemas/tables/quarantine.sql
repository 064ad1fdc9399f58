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
  series_ids ARRAY<BIGINT> COMMENT 'For unknown_series: the series of the refused samples, each once, ascending. NULL for every other reason.',
  last_offset BIGINT COMMENT 'Kafka offset, from 0, of the last message that the row stands for; the same as offset where that is one message. NULL in rows of releases that did not keep it.',
  metric STRING COMMENT 'Metric of the refused samples or definitions, for label_limit and cardinality_limit and wherever else their definitions are at hand. NULL where they are of several metrics, or that is not known.',
  limit_name STRING COMMENT 'What was exceeded: the setting (retention.samples_days, ingest.max_future_s, ingest.max_message_bytes), or the key of limits.toml (total.series, default.series, metric.series, default.max_age_s, ...), where metric stands for the section of the metric that the row names. NULL where nothing with a number was.',
  allowed BIGINT COMMENT 'What limit_name allowed: a number of series or labels, bytes, or milliseconds. For retention.samples_days, four fifths of it.',
  found BIGINT COMMENT 'What was found instead, in the unit of allowed, of the record that was furthest off: labels of a series, bytes, or, as of rejected_at, milliseconds that a sample was old or ahead. NULL where it is not known: for a number of series, and for most messages that expand to too many bytes.',
  oldest_ts BIGINT COMMENT 'Time of the oldest refused sample. Milliseconds since the Unix epoch, UTC. NULL where it is not known.',
  newest_ts BIGINT COMMENT 'Time of the newest refused sample. Milliseconds since the Unix epoch, UTC. NULL where it is not known.'
) USING DELTA
COMMENT 'What ingest could not store, with the reason. Append only. One writer: jobs/ingest.py.'
TBLPROPERTIES ('varve.time_column' = 'rejected_at')
