CREATE TABLE episodes (
  event_id STRING NOT NULL COMMENT 'Identity of the event: equal for every copy of it.',
  episode_id STRING NOT NULL COMMENT 'Identity of the episode: the same from its opening to its end, and when it is restated.',
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  event STRING NOT NULL COMMENT 'open, update, close, restate or withdraw: a repair has left nothing of it.',
  state STRING NOT NULL COMMENT 'open, closed or withdrawn: what it is by this event.',
  starts_at BIGINT NOT NULL COMMENT 'End of its first window. Milliseconds since the Unix epoch, UTC.',
  last_at BIGINT NOT NULL COMMENT 'End of its last window so far that was far from the baseline. Milliseconds since the Unix epoch, UTC.',
  windows BIGINT NOT NULL COMMENT 'Number of windows that were far from the baseline so far. At least 1; 0 once withdrawn.',
  value DOUBLE NOT NULL COMMENT 'Of the window that was furthest off; NaN: there was no sample. Unit of the metric, per second for a counter.',
  expected DOUBLE NOT NULL COMMENT 'What was expected of it. Unit of the metric, per second for a counter.',
  score DOUBLE NOT NULL COMMENT 'Its distance in standard deviations. No unit.',
  severity STRING NOT NULL COMMENT 'warning, or critical from the extreme score of the rule on.',
  rule STRING NOT NULL COMMENT 'Name of the rule in anomalies.toml.',
  baseline_at BIGINT NOT NULL COMMENT 'computed_at of the baseline of that window. Milliseconds since the Unix epoch, UTC.',
  group_id STRING COMMENT 'Identity of the group of episodes that opened together; NULL for one on its own.',
  is_alert BOOLEAN NOT NULL COMMENT 'Whether it is told on the topic alerts: it was found while it was fresh.',
  decided_at BIGINT NOT NULL COMMENT 'End of the last window that was known when this was decided. Milliseconds since the Unix epoch, UTC.',
  turn BIGINT NOT NULL COMMENT 'Number of the commit to anomalies that it belongs to, from 0. Of two rows of one episode the later counts, by turn and then decided_at.'
) USING DELTA
COMMENT 'What happened to each episode: stretches of windows far from their baseline. Append only; the topic metric-anomalies has the same events. One writer: jobs/detect_anomalies.py.'
TBLPROPERTIES ('varve.time_column' = 'decided_at')
