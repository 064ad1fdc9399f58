"""Delta tables without a JVM: write files, commit them, follow the log, read by statistics.

Every change of a table goes through `commit.commit`; nothing else in Varve writes a table.
"""
