"""How runs that compare answers with those of a real Prometheus begin."""

import argparse
import random

from tests.integration.promql.prometheus import missing


def arguments(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments, and a seed, which is printed. Without a Prometheus the process ends with 2."""
    parser.add_argument("--seed", type=int, default=random.randrange(10**6))
    args = parser.parse_args()
    if reason := missing():
        parser.exit(2, f"{reason}\n")
    print(f"seed {args.seed}", flush=True)  # noqa: T201 - prints by trade
    return args
