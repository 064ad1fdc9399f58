CREATE TABLE repairs (
  tier STRING NOT NULL COMMENT 'Tier of the windows: 1m, 5m, 1h or 1d.',
  start_ms BIGINT NOT NULL COMMENT 'Start of the range of windows, exclusive. Milliseconds since the Unix epoch, UTC.',
  end_ms BIGINT NOT NULL COMMENT 'End of the range of windows, inclusive. Milliseconds since the Unix epoch, UTC.',
  status STRING NOT NULL COMMENT 'repaired, or refused where the samples have expired: old rows stay, and missing ones are never made.',
  windows BIGINT NOT NULL COMMENT 'Windows that lacked late samples, each of one series; 0 where all windows of the range were suspect.',
  revision BIGINT NOT NULL COMMENT 'Version of the table below that the repaired rows were computed from.',
  noted_at BIGINT NOT NULL COMMENT 'When the repair or refusal was noted. Milliseconds since the Unix epoch, UTC.'
) USING DELTA
COMMENT 'What late samples did to closed windows: the newest 100,000 notes. One writer: jobs/rollup.py.'
TBLPROPERTIES ('varve.time_column' = 'noted_at')
