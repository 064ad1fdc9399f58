"""Scraping as Prometheus does it: a prometheus.yml, targets that are discovered, loops that read
them. What is read takes the road of the gateway.
"""
