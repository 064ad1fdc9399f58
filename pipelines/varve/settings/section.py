"""What every section of the settings is made of."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    SecretStr,
    ValidationInfo,
    field_validator,
)

from varve.model.text_file import read_text
from varve.settings.environment import VariableText

GREATEST = 2**53
"""No setting is a greater number. A thousand times as many still fit into 64 bits."""

_TYPES: dict[object, tuple[tuple[type, ...], str]] = {
    int: ((int,), "a whole number"),
    float: ((int, float), "a number"),
    bool: ((bool,), "true or false"),
}


class Section(BaseModel):
    """Settings are immutable, unknown ones are refused, and docstrings are their documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, allow_inf_nan=False
    )

    @field_validator("*", mode="before")
    @classmethod
    def _has_its_type(cls, value: object, info: ValidationInfo) -> object:
        """Refuses what pydantic would convert: true for 1, "9092" for a port, 1 for true.

        Variables of the environment have texts only, so these are converted.
        """
        wanted = _TYPES.get(cls.model_fields[str(info.field_name)].annotation)
        if wanted is None or isinstance(value, VariableText):
            return value
        types, words = wanted
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise ValueError(f"should be {words}, not {_in_toml(value)}")
        return value

    @field_validator("*", mode="after")
    @classmethod
    def _is_no_giant(cls, value: object) -> object:
        """What is configured in seconds is handed on in milliseconds, to Java's longs too."""
        if isinstance(value, int | float) and abs(value) > GREATEST:
            raise ValueError(f"should be at most {GREATEST:,}")
        return value


def _resolve(value: object) -> object:
    return secret_of(value) if isinstance(value, str) else value


def secret_of(value: str) -> str:
    """The secret that `env:NAME` or `file:PATH` stands for; any other text as it is. ValueError if
    it cannot be had.
    """
    if value.startswith("env:"):
        name = value.removeprefix("env:")
        if name not in os.environ:
            raise ValueError(f"the environment variable {name} is not set")
        return os.environ[name]
    if value.startswith("file:"):
        path = Path(value.removeprefix("file:")).expanduser()
        try:
            return read_text(path).strip()
        except OSError as err:
            raise ValueError(f"cannot read the secret in {path}: {err.strerror}") from err
        except ValueError:  # its own words name a byte of the secret
            raise ValueError(f"the secret in {path} is not in UTF-8: save it as UTF-8") from None
    return value


def _in_toml(value: object) -> str:
    return json.dumps(value) if isinstance(value, bool | int | float | str) else str(value)


Secret = Annotated[SecretStr, BeforeValidator(_resolve)]
"""A text that is never shown. It is written as it is, or as env:NAME or file:PATH."""
