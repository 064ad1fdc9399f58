"""Where the files that ship with the package are: schemas/ and the default conf/."""

from __future__ import annotations

from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def schemas_dir() -> Path:
    return _resource("schemas")


def conf_dir() -> Path:
    """Defaults only; a user's own file is named by --config or VARVE_CONFIG."""
    return _resource("conf")


@cache
def _resource(name: str) -> Path:
    """In a wheel inside the package, in a checkout at its top."""
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parents[1] / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"{name}/ is neither in {_PACKAGE / '_data'} nor in a checkout")
