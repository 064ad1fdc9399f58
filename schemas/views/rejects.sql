-- What ingest has refused: the table quarantine with its times as TIMESTAMP and, where the bytes are
-- text, the text. One row a message or part of one, or a number of refusals that share a reason.
--
-- rejected_at                when it was refused, TIMESTAMP, UTC
-- reason                     why: unknown_series, too_old, cardinality_limit, ... (docs/operations.md)
-- metric                     the one metric of what was refused, where that is known
-- limit_name                 setting, or key of limits.toml, that was exceeded; NULL if none was
-- allowed, found             what it allows and what was found, furthest off: series, labels, bytes, or
--                            milliseconds that a sample is old or ahead; found may be NULL
-- beyond                     found - allowed
-- samples                    samples refused; 1 for a message that cannot be read at all
-- oldest, newest             times of the oldest and the newest refused sample, TIMESTAMP, UTC
-- query, topic, partition    ingest query, Kafka topic and partition of the message
-- first_offset, last_offset  of the messages that the row stands for, inclusive
-- sent_at                    Kafka timestamp of the first message, TIMESTAMP, UTC
-- detail                     what exactly was wrong, for a person
-- text                       value as text; NULL where it is not UTF-8
-- bytes                      length of value; NULL where only a number was kept
-- value                      what was refused, as a message that can be sent again
-- rejected_at_ms             rejected_at in ms since the Unix epoch; a condition on it skips files
SELECT
  {timestamp[quarantine.rejected_at]} AS rejected_at,
  quarantine.reason,
  quarantine.metric,
  quarantine.limit_name,
  quarantine.allowed,
  quarantine.found,
  quarantine.found - quarantine.allowed AS beyond,
  quarantine.samples,
  {timestamp[quarantine.oldest_ts]} AS oldest,
  {timestamp[quarantine.newest_ts]} AS newest,
  quarantine.query,
  quarantine.topic,
  quarantine.partition,
  quarantine.offset AS first_offset,
  coalesce(quarantine.last_offset, quarantine.offset) AS last_offset,
  {timestamp[quarantine.ts]} AS sent_at,
  quarantine.detail,
  {text[quarantine.value]} AS text,
  octet_length(quarantine.value) AS bytes,
  quarantine.value,
  quarantine.rejected_at AS rejected_at_ms
FROM quarantine
