"""PromQL's functions of vectors, scalars and strings, a module for each family.

`FUNCTIONS` maps a name to what evaluates its call. Functions of range vectors are in ranging.py.
"""

from varve.promql.functions.table import FUNCTIONS

__all__ = ["FUNCTIONS"]
