CREATE TABLE episode_labels (
  episode_id STRING NOT NULL COMMENT 'Identity of the episode (table episodes).',
  series_id BIGINT NOT NULL COMMENT 'Identity of its series (table series).',
  label STRING NOT NULL COMMENT 'real or expected: what a person says of it.',
  labelled_at BIGINT NOT NULL COMMENT 'When that was said. Milliseconds since the Unix epoch, UTC. Of two rows of one episode the later counts.'
) USING DELTA
COMMENT 'What people say of episodes: the precision of each rule, and what series are better left alone. Append only. Written by varve anomalies label and by the page.'
TBLPROPERTIES ('varve.time_column' = 'labelled_at')
