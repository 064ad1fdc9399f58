CREATE TABLE day_features (
  series_id BIGINT NOT NULL COMMENT 'Identity of the series (table series).',
  day_end BIGINT NOT NULL COMMENT 'End of the day, inclusive: (day_end - 1d, day_end]. Milliseconds since the Unix epoch, UTC; a multiple of a day.',
  is_rate BOOLEAN NOT NULL COMMENT 'Whether the minutes are growth per second, as of a counter, and not means of values.',
  minutes INT NOT NULL COMMENT 'Number of minutes of the day that have a number. 1 to 1440; a day without any has no row.',
  level DOUBLE NOT NULL COMMENT 'Mean of the minutes. Unit of the metric, per second for a counter.',
  trend DOUBLE COMMENT 'Change over the day: 24 times the slope of a line through the means of its hours; NULL for a single hour. Unit of the metric, per second for a counter.',
  volatility DOUBLE NOT NULL COMMENT 'Standard deviation of the minutes about the means of their hours. Unit of the metric, per second for a counter; at least 0.',
  gap_rate DOUBLE NOT NULL COMMENT 'Share of the minutes of the day that have no number. 0 to 1.',
  resets BIGINT NOT NULL COMMENT 'Drops between neighbouring samples inside the minutes, as of a counter that began anew. At least 0.',
  season_strength DOUBLE COMMENT 'Share of the variance of its hours that the means of the same hours of the seven days before explain: 1 all, below 0 worse than a constant; NULL without such hours, or without variance.',
  revision BIGINT NOT NULL COMMENT 'Version of the table features that the row was computed from. Of two rows of one (series_id, day_end) the greater revision counts.'
) USING DELTA
COMMENT 'What each day of a series was like, from what was known at its end: the features of models and notebooks. Append only: a day is appended again with a higher revision where one of its hours, or of the seven days before, was repaired. One writer: jobs/baseline.py.'
TBLPROPERTIES ('varve.time_column' = 'day_end')
