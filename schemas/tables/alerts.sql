CREATE TABLE alerts (
  event_id STRING NOT NULL COMMENT 'Identity of the event: equal for every copy of it.',
  fingerprint STRING NOT NULL COMMENT 'Identity of the alert: a hash of its labels, hexadecimal.',
  rule STRING NOT NULL COMMENT 'Name of the rule: the label alertname.',
  state STRING NOT NULL COMMENT 'pending, firing or resolved.',
  labels MAP<STRING, STRING> NOT NULL COMMENT 'Labels of the alert, alertname included.',
  annotations MAP<STRING, STRING> NOT NULL COMMENT 'Expanded annotations.',
  value DOUBLE COMMENT 'Value of the expression when the state was reached. Unit of the expression.',
  starts_at BIGINT NOT NULL COMMENT 'When the condition began to hold. Milliseconds since the Unix epoch, UTC.',
  ends_at BIGINT COMMENT 'When the condition ceased to hold; NULL while it holds. Milliseconds since the Unix epoch, UTC.',
  evaluated_at BIGINT NOT NULL COMMENT 'Evaluation time of the rule. Milliseconds since the Unix epoch, UTC.',
  snapshot STRING COMMENT 'Token of the table versions the evaluation read.'
) USING DELTA
COMMENT 'Every change of state of an alert. Append only. One writer: varve serve rules.'
TBLPROPERTIES ('varve.time_column' = 'evaluated_at')
