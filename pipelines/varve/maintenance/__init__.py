"""Batch jobs over the tables: each plans its work from a snapshot, then does it."""
