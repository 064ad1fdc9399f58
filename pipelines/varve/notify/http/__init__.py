"""API v2 of Alertmanager over a notifier, and what else its port answers."""
