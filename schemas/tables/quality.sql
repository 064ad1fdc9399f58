CREATE TABLE quality (
  checked_at BIGINT NOT NULL COMMENT 'When the run began. Milliseconds since the Unix epoch, UTC.',
  start_ms BIGINT NOT NULL COMMENT 'Start of the range that was checked, exclusive. Milliseconds since the Unix epoch, UTC.',
  end_ms BIGINT NOT NULL COMMENT 'End of the range that was checked, inclusive. Milliseconds since the Unix epoch, UTC.',
  suite STRING NOT NULL COMMENT 'What was checked: a table, or counters, gaps, frontier, accounting, recomputed.',
  expectation STRING NOT NULL COMMENT 'The kind of expectation, by its name in Great Expectations.',
  column_name STRING COMMENT 'The column or columns it is about; NULL where it is about the table.',
  success BOOLEAN NOT NULL COMMENT 'Whether it is met.',
  rows BIGINT COMMENT 'Number of rows that were looked at.',
  unexpected BIGINT COMMENT 'Number of rows that are not as expected; NULL where it is not about rows.',
  observed STRING COMMENT 'What was found, for a person: a value, or examples of unexpected ones.'
) USING DELTA
COMMENT 'Results of quality checks, one row an expectation and run. Append only. One writer: jobs/check_quality.py.'
TBLPROPERTIES ('varve.time_column' = 'checked_at')
