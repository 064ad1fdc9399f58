"""Numba kernels over (series x step) matrices and sample columns.

A kernel is compiled for the explicit signature given to `kernel` and cached on disk. `warm_up`
loads or compiles all of them, so that the first query pays nothing.
"""

from varve.promql.kernels.registry import kernel, warm_up

__all__ = ["kernel", "warm_up"]
