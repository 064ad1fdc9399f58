"""Several notifiers as one: each has the state of all, and one of them tells, the others watch."""
