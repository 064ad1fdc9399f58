"""The `varve` command: one module per subcommand, each with `configure` and `run`."""

from varve.cli.main import main

__all__ = ["main"]
