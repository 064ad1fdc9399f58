"""What a process does before its first request: kernels compiled, the collector of garbage set."""

from __future__ import annotations

from varve.ingest import arrow_codec
from varve.model.compiled import warm_up
from varve.model.interpreter import set_up_for_requests

_KERNELS = ("hashes", "labels", "messages", "otlp", "requests", "scrape", "text", "walk")


def make_ready() -> None:
    """Loads or compiles kernels, and sets the interpreter up for requests.

    Takes a moment from a warm cache, some seconds without one.
    """
    warm_up(*(f"varve.gateway.kernel_{part}" for part in _KERNELS))
    arrow_codec.write_definitions(())  # the first of them imports pandas, where it is installed
    set_up_for_requests()
