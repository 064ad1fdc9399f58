"""Numba kernels over (series x step) matrices and sample columns.

A kernel is compiled for the explicit signature given to `kernel` and cached on disk. `warm_up`
loads or compiles all of them, so that the first query pays nothing.
"""

from varve.model import compiled

_MODULES = (
    "windows",
    "aggregate",
    "buckets",
    "json",
    "label_json",
    "rollups",
    "rollup_quantiles",
)


def warm_up() -> int:
    """Loads or compiles every kernel that queries need; returns how many there are."""
    return compiled.warm_up(*(f"{__name__}.{module}" for module in _MODULES))
