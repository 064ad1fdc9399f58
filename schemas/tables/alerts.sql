CREATE TABLE alerts (
  event_id STRING NOT NULL COMMENT 'Identity of the event: equal for every copy of it.',
  fingerprint STRING NOT NULL COMMENT 'Identity of the alert: a hash of its labels, hexadecimal.',
  rule STRING NOT NULL COMMENT 'Name of the rule: the label alertname.',
  state STRING NOT NULL COMMENT 'pending, firing, resolved, or inactive: pending no longer, without having fired.',
  labels MAP<STRING, STRING> NOT NULL COMMENT 'Labels of the alert, alertname included.',
  annotations MAP<STRING, STRING> NOT NULL COMMENT 'Expanded annotations.',
  value DOUBLE COMMENT 'Value of the expression when the state was reached. Unit of the expression.',
  starts_at BIGINT NOT NULL COMMENT 'When the condition began to hold. Milliseconds since the Unix epoch, UTC.',
  ends_at BIGINT COMMENT 'When the condition ceased to hold; NULL while it holds. Of a firing alert: since when keep_firing_for keeps it; of one of a job: when it ends by itself. Milliseconds since the Unix epoch, UTC.',
  evaluated_at BIGINT NOT NULL COMMENT 'Evaluation time of the rule. Milliseconds since the Unix epoch, UTC.',
  snapshot STRING COMMENT 'Token of the table versions the evaluation read.',
  rule_group STRING COMMENT 'File and name of the group of the rule, file;name. NULL: an event of another job.',
  incomplete BOOLEAN COMMENT 'Whether the evaluation could not wait for all of its data.',
  late BOOLEAN COMMENT 'Whether the evaluation was missed when it was due, and made up for.',
  review STRING COMMENT 'NULL for a change that happened. Of an evaluation marked incomplete, done again with all of its data: same, or different if this is the state it should have given.'
) USING DELTA
COMMENT 'Every change of state of an alert. Append only. One writer: varve serve rules.'
TBLPROPERTIES ('varve.time_column' = 'evaluated_at')
