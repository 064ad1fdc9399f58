-- Samples with their labels, each (series_id, ts) once: of copies the greatest stays, NULL < NaN <
-- numbers. One row a sample.
--
-- metric     name of the metric
-- tags       labels by name, without the metric's name
-- timestamp  time of the sample, TIMESTAMP, UTC
-- value      in the unit of the metric; NULL is a staleness marker: the series ended then
-- series_id  identity of the series (table series)
-- ts         time of the sample, ms since the Unix epoch; a condition on it skips files
WITH definitions AS (
{newest_definitions[series]}
),
whole_samples AS (
  SELECT
    series_id, ts,
    -- Files of past hours have integers in place of the value; the quotient is that very value.
    coalesce(value, CAST(scaled + shift AS DOUBLE) / divisor) AS value
  FROM samples
),
distinct_samples AS (
  SELECT
    series_id, ts,
    -- The greatest number; where there is none, NaN if there is one.
    coalesce(max(CASE WHEN isnan(value) THEN NULL ELSE value END), max(value)) AS value
  FROM whole_samples
  GROUP BY series_id, ts
)
SELECT
  definitions.metric,
  definitions.tags,
  {timestamp[distinct_samples.ts]} AS timestamp,
  distinct_samples.value,
  distinct_samples.series_id,
  distinct_samples.ts
FROM distinct_samples
JOIN definitions ON definitions.series_id = distinct_samples.series_id
