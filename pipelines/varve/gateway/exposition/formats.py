"""Which format a body is in, as its content type says."""

from __future__ import annotations

from varve.gateway.exposition.open_metrics import parse_open_metrics
from varve.gateway.exposition.prometheus_text import parse_prometheus_text
from varve.gateway.exposition.protobuf_families import parse_families
from varve.gateway.exposition.samples import Exposition, InvalidExposition

TEXT, OPEN_METRICS = "text/plain", "application/openmetrics-text"
PROTOBUF = "application/vnd.google.protobuf"
_MESSAGE = "io.prometheus.client.metricfamily"


def media_type(content_type: str) -> str:
    """The format that a content type says; "" if it is none that is known."""
    kind, *parameters = [part.strip().lower() for part in content_type.split(";")]
    if kind == PROTOBUF:
        said = dict(parameter.partition("=")[::2] for parameter in parameters)
        is_known = said.get("proto", _MESSAGE) == _MESSAGE
        return kind if is_known and said.get("encoding", "delimited") == "delimited" else ""
    return kind if kind in (TEXT, OPEN_METRICS) else ""


def format_of(content_type: str, fallback: str = "") -> str:
    """The format of a body. fallback: that of one whose content type says none that is known.
    Raises InvalidExposition.
    """
    kind = media_type(content_type) or fallback
    if kind:
        return kind
    said = f"content-type is {content_type[:80]!r}" if content_type else "there is no content-type"
    raise InvalidExposition(f"{said}, and fallback_scrape_protocol says no format")


def parse(body: bytes, content_type: str, *, fallback: str = "") -> Exposition:
    """The samples of a body. fallback: as of format_of. Raises InvalidExposition."""
    kind = format_of(content_type, fallback)
    if kind == TEXT:
        return parse_prometheus_text(body)
    if kind == OPEN_METRICS:
        return parse_open_metrics(body)
    return parse_families(body)
