"""Send samples to Varve: a thin layer over a Kafka producer.

from varve.client import Producer, Sample, define

requests = define("http_requests_total", {"job": "shop"}, metric_type="counter")
with Producer("localhost:9092") as producer:
    producer.put([Sample(requests, 1_700_000_000_000, 42.0)])
"""

from varve.client.messages import Sample
from varve.client.producer import Counts, Producer
from varve.model.identity import SeriesDefinition, define

__all__ = ["Counts", "Producer", "Sample", "SeriesDefinition", "define"]
