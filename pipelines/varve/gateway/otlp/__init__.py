"""OTLP metrics as series of Prometheus: names, labels, points, deltas, HTTP and gRPC."""
