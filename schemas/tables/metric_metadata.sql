CREATE TABLE metric_metadata (
  metric STRING NOT NULL COMMENT 'Name of a metric or of a family of metrics: that of a histogram is without _bucket, _count and _sum.',
  type STRING NOT NULL COMMENT 'counter, gauge, histogram, gaugehistogram, summary, info, stateset or unknown.',
  unit STRING NOT NULL COMMENT 'Unit of the values in base units (seconds, bytes, ...); empty if unknown.',
  help STRING NOT NULL COMMENT 'One line on what the metric measures; empty if unknown.',
  noted_at BIGINT NOT NULL COMMENT 'When this was noted. Of several rows of a metric the newest counts: it has what those before it say, too. Milliseconds since the Unix epoch, UTC.'
) USING DELTA
COMMENT 'What senders say of metrics apart from their series, as remote write 1.0 does: whenever it comes, it is here. One writer: jobs/ingest.py.'
