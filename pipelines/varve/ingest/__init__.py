"""From the bytes of Kafka messages to files of samples: decode, judge, identify, write, account.

Everything here runs without Spark; varve.spark.ingest distributes it.
"""
