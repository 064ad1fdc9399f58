"""The typed plan of a query: what is evaluated, what is shared, what runs in one kernel."""
