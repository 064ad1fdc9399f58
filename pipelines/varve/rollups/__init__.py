"""Rollups: windows of 1m, 5m, 1h and 1d, each row a pure function of the samples in its window."""
