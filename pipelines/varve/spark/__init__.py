"""Spark distributes the work of varve.ingest and varve.rollups; rows do not enter the JVM."""
