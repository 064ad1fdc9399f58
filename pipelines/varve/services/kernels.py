"""Compiles every kernel ahead of its first use: `python -m varve.services.kernels PART`.

`make setup` runs it, so that the first start of a service loads in a moment what would take it a
minute of CPU to compile. Numba keeps the code beside the source.
"""

from __future__ import annotations

import sys


def compile_query() -> None:
    """Compiles the kernels of the query service."""
    import varve.query.sample_selection  # noqa: F401, PLC0415 - registers its kernels
    from varve.promql.kernels import warm_up  # noqa: PLC0415

    warm_up()


def compile_streams() -> None:
    """Compiles the kernels of ingest and rollups."""
    from varve.spark.daemon import make_ready  # noqa: PLC0415

    make_ready()


def compile_gateway() -> None:
    """Compiles the kernels of the gateway."""
    from varve.gateway.startup import make_ready  # noqa: PLC0415

    make_ready()


PARTS = {"query": compile_query, "streams": compile_streams, "gateway": compile_gateway}


if __name__ == "__main__":
    PARTS[sys.argv[1]]()
