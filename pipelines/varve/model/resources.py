"""Where the files that ship with Varve are: schemas, default settings and jars.

An installed wheel carries `schemas/` and `conf/` as package data under `varve/_data`; a checkout
has them at its top. Everything that loads one of these files asks here.
"""

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def schemas_dir() -> Path:
    """Folder of table and wire schemas. Raises FileNotFoundError, see `_folder`."""
    return _folder("schemas")


def conf_dir() -> Path:
    """Folder of default settings. Raises FileNotFoundError, see `_folder`."""
    return _folder("conf")


def jars_dir(kind: str) -> Path:
    """Folder of jars fetched by `make setup`; `kind` is "spark" or "kafka".

    They belong to the Python environment in use, so `varve reset` leaves them and each
    environment has those of its own lock. Raises FileNotFoundError when they are not there.
    """
    folder = Path(sys.prefix) / "share" / "varve" / "jars" / kind
    if not folder.is_dir():
        raise FileNotFoundError(f"no jars in {folder}: run `make setup` in the checkout")
    return folder


def _folder(name: str) -> Path:
    """The packaged folder, else the checkout's.

    Raises FileNotFoundError if neither is there: the installation is incomplete.
    """
    packaged = _PACKAGE / "_data" / name
    if packaged.is_dir():
        return packaged
    checkout = _PACKAGE.parent.parent / name
    if checkout.is_dir():
        return checkout
    raise FileNotFoundError(
        f"neither {packaged} nor {checkout} exists: install Varve again from its wheel or checkout"
    )
