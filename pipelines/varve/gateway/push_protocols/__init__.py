"""Small protocols that senders push by HTTP: JSON, Influx' line protocol, Pushgateway's groups."""
