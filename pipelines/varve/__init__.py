"""Varve: open metrics monitoring over Kafka, Spark and Delta tables."""

__version__ = "0.1.0"
