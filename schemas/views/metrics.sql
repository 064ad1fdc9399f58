-- Windows of {tier} with their labels and statistics, latest revision only. One row a series and
-- window; a window is left-open, (window_start, window_end], and is there once it has closed.
--
-- metric                 name of the metric
-- tags                   labels by name, without the metric's name
-- window_start           start of the window, exclusive, TIMESTAMP, UTC
-- window_end             end of the window, inclusive, TIMESTAMP, UTC
-- count                  samples with a value, NaN included, staleness markers not
-- avg, sum, max, stddev  of those samples, NaN as soon as one is NaN, as SQL's aggregates over
--                        the view raw; NULL if count is 0. stddev is the population's
-- min                    the least number; NaN if all samples are NaN
-- p50, p95, p99          quantiles of the samples that are not NaN, from the sketch: linear between
--                        the two neighbouring order statistics, each within 1.083 %
-- first, last            value of the first and of the last sample
-- increase               growth of a counter from the first to the last sample, over resets; what it
--                        grew from the window before is not in it (docs/sql.md, "Counters")
-- reset_correction       of that, what resets took away: the sum of the values before each drop
-- resets                 drops from one sample to the next
-- nan_count              samples that are NaN
-- sketch                 what p50, p95 and p99 come from: ARRAY of key and count by ascending key;
--                        sketches of any windows and series merge by adding up counts
-- series_id              identity of the series (table series)
-- window_end_ms          window_end in ms since the Unix epoch; a condition on it skips files
WITH definitions AS (
{newest_definitions[series]}
),
windows AS (
  SELECT
    *,
    count - nan_count AS numbers,
    sum + sum_error AS total
  FROM (
    SELECT
      *,
      row_number() OVER (PARTITION BY series_id, window_end ORDER BY revision DESC) AS place
    FROM rollup_{tier}
  ) AS revisions
  WHERE place = 1
),
ranked AS (
  SELECT
    *,
    5e-1 * (numbers - 1) AS rank_50,
    95e-2 * (numbers - 1) AS rank_95,
    99e-2 * (numbers - 1) AS rank_99
  FROM windows
),
located AS (
  SELECT
    *,
    {key_at[floor(rank_50)]} AS key_50_low,
    {key_at[ceil(rank_50)]} AS key_50_high,
    {key_at[floor(rank_95)]} AS key_95_low,
    {key_at[ceil(rank_95)]} AS key_95_high,
    {key_at[floor(rank_99)]} AS key_99_low,
    {key_at[ceil(rank_99)]} AS key_99_high
  FROM ranked
),
estimated AS (
  SELECT
    *,
    {estimate[key_50_low]} AS low_50,
    {estimate[key_50_high]} AS high_50,
    {estimate[key_95_low]} AS low_95,
    {estimate[key_95_high]} AS high_95,
    {estimate[key_99_low]} AS low_99,
    {estimate[key_99_high]} AS high_99
  FROM located
)
SELECT
  definitions.metric,
  definitions.tags,
  {timestamp[estimated.window_end - {width_ms}]} AS window_start,
  {timestamp[estimated.window_end]} AS window_end,
  count,
  {unless_nan[total / count]} AS avg,
  min,
  {unless_nan[max]} AS max,
  {unless_nan[sqrt(greatest(m2 / count - power(total / count - base, 2), 0e0))]} AS stddev,
  {between[50]} AS p50,
  {between[95]} AS p95,
  {between[99]} AS p99,
  {unless_nan[total]} AS sum,
  first_value AS first,
  last_value AS last,
  last_value - first_value + reset_correction AS increase,
  reset_correction,
  resets,
  nan_count,
  sketch,
  estimated.series_id,
  estimated.window_end AS window_end_ms
FROM estimated
JOIN definitions ON definitions.series_id = estimated.series_id
