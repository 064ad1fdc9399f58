"""Notifications: who is told of which alerts, when and how, by Alertmanager's semantics.

The core (`notifier`) is a state machine without I/O: it gets alerts, silences, a configuration and
the time, and gives records to be stored and deliveries to be made. `journal` makes records durable,
`delivery` sends, `http` answers API v2.
"""
