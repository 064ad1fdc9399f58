"""What targets expose: Prometheus text, OpenMetrics text, and protobuf, as samples."""
