"""Blocks of Prometheus' database on disk: index, chunks and tombstones, read without Prometheus."""
