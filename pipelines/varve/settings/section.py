"""What every section of the settings is made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, ConfigDict, SecretStr


class Section(BaseModel):
    """Settings are immutable, unknown ones are refused, and docstrings are their documentation."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def _resolve(value: object) -> object:
    """`env:NAME` and `file:PATH` stand for a secret kept elsewhere."""
    if not isinstance(value, str):
        return value
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set")
        return os.environ[name]
    if value.startswith("file:"):
        path = Path(value.removeprefix("file:")).expanduser()
        try:
            return path.read_text().strip()
        except OSError as err:
            raise ValueError(f"cannot read the secret in {path}: {err.strerror}") from err
    return value


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]
"""Never shown. Written as it is, or as env:NAME or file:PATH."""
