"""Send samples to Varve by Kafka or a gateway, look at them in process, ask a query service.

docs/client.md says more.

from varve.client import Producer

with Producer("localhost:9092", tags={"job": "shop"}) as producer:
    producer.gauge("queue_length", 12, {"queue": "mail"})
    producer.counter("orders_total", tags={"shop": "berlin"})
    producer.histogram("request_seconds", 0.21)
"""

from varve.client.collector import MetricsCollector
from varve.client.deliveries import Counts
from varve.client.messages import Sample
from varve.client.producer import Producer
from varve.client.query import Frame, Query, QueryFailed
from varve.model.errors import BadRequest, NeedsOperator, TemporaryError
from varve.model.identity import SeriesDefinition, define

__all__ = [
    "BadRequest",
    "Counts",
    "Frame",
    "MetricsCollector",
    "NeedsOperator",
    "Producer",
    "Query",
    "QueryFailed",
    "Sample",
    "SeriesDefinition",
    "TemporaryError",
    "define",
]
