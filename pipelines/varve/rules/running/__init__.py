"""Rules as they are run over the tables: when, by whom, exactly once, and where it goes."""
