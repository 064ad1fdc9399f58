"""The gateway's kernels, to be compiled before the first request."""

from __future__ import annotations

from varve.model.compiled import warm_up


def warm_up_gateway() -> None:
    """Loads or compiles them. Takes a moment from a warm cache, some seconds without one."""
    warm_up("varve.gateway.kernel_walk", "varve.gateway.kernel_messages")
