"""Checks of what is in the tables: facts are read from them, and expectations judge the facts."""
