"""Types of fields: what a text of the YAML file may be, and what becomes of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    PlainValidator,
    SecretStr,
    model_validator,
)

from varve.notify.config.document import Plain
from varve.promql.syntax.literals import parse_duration

_TRUE = frozenset({"y", "Y", "yes", "Yes", "YES", "true", "True", "TRUE", "on", "On", "ON"})
_FALSE = frozenset({"n", "N", "no", "No", "NO", "false", "False", "FALSE", "off", "Off", "OFF"})
_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9_]*|0x[0-9a-fA-F_]+|0o?[0-7_]+|0b[01_]+)")
# Longer than this in ns does not fit 64 bits; Go's durations end there, at 292 years.
_MAX_DURATION_S = 2**63 / 1e9


class WebhookUrl(SecretStr):
    """An address whose path and query are secret, and whose host is shown."""

    def __init__(self, secret: SecretStr) -> None:
        super().__init__(secret.get_secret_value())

    @property
    def shown(self) -> str:
        parts = urlsplit(self.get_secret_value())
        host = parts.netloc.rpartition("@")[2]
        path = "<secret>" if parts.path.strip("/") or parts.query else ""
        return f"{parts.scheme}://{host}/{path}" if host and "{{" not in host else "<secret>"


class Fields(BaseModel):
    """A mapping of the file. Unknown keys are refused; a key with null is as if it were absent."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)

    exclusive: ClassVar[tuple[tuple[str, ...], ...]] = ()
    """Fields of which at most one may be set."""

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, value: Any) -> Any:
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise ValueError(f"should be a mapping, not {_shown(value)}")  # noqa: TRY004 - pydantic's
        return {key: item for key, item in value.items() if item is not None}

    @model_validator(mode="after")
    def _at_most_one(self) -> Any:
        for names in self.exclusive:
            given = [name for name in names if is_set(getattr(self, name))]
            if len(given) > 1:
                raise ValueError(f"at most one of {' and '.join(names)} may be set")
        return self


def is_set(value: object) -> bool:
    """Whether a field says anything: empty texts, lists and False say nothing."""
    return bool(value.get_secret_value() if isinstance(value, SecretStr) else value)


def _text(value: Any) -> Any:
    if value is None:
        return ""
    if isinstance(value, dict | list):
        raise ValueError(f"should be a text, not {_shown(value)}")  # noqa: TRY004 - pydantic's
    return str(value)


def _boolean(value: Any) -> Any:
    if isinstance(value, bool):
        return value
    if isinstance(value, Plain) and value in _TRUE | _FALSE:
        return value in _TRUE
    raise ValueError(f"should be true or false, not {_shown(value)}")


def _integer(value: Any) -> Any:
    if isinstance(value, int):
        return value
    if isinstance(value, Plain) and _INTEGER.fullmatch(value):
        return int(value, 8 if re.fullmatch(r"[-+]?0[0-7_]+", value) else 0)
    raise ValueError(f"should be a whole number, not {_shown(value)}")


def _number(value: Any) -> Any:
    if isinstance(value, int | float):
        return float(value)
    if isinstance(value, Plain):
        try:
            return float(value)
        except ValueError:
            pass
    raise ValueError(f"should be a number, not {_shown(value)}")


def _duration_ms(value: Any) -> Any:
    if isinstance(value, int):
        return value
    text = _text(value)
    if text == "0":
        return 0
    if not text:
        raise ValueError("a duration is empty; write one like 30s or 1h30m")
    try:
        seconds = parse_duration(text)
    except ValueError as err:
        raise ValueError(f"{err}; write one like 30s or 1h30m") from None
    if seconds > _MAX_DURATION_S:
        raise ValueError("duration out of range")
    return round(seconds * 1000)


def _http_url(text: str) -> str:
    if text in {"", "<secret>"}:
        return text
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - raises if it is none
    except ValueError as err:
        raise ValueError(f"is no URL: {err}") from None
    if parts.scheme not in {"http", "https"}:
        raise ValueError(f"unsupported scheme {parts.scheme!r} for a URL; http or https is wanted")
    if not parts.hostname:
        raise ValueError("a URL lacks its host")
    return text


def _secret(value: Any) -> Any:
    return value if isinstance(value, SecretStr) else SecretStr(_text(value))


def _secret_url(value: Any) -> Any:
    secret = _secret(value)
    text = secret.get_secret_value()
    if "{{" not in text:
        try:
            _http_url(text)
        except ValueError as err:
            # The value stays out of the message: the address is the secret.
            raise ValueError(str(err).partition("'")[0].strip() or "is no URL") from None
    return secret


def _webhook_url(value: Any) -> Any:
    return value if isinstance(value, WebhookUrl) else WebhookUrl(_secret_url(value))


def _items(value: Any) -> Any:
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise ValueError(f"should be a list, not {_shown(value)}")  # noqa: TRY004 - pydantic's
    return tuple(value)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    return "nothing" if value is None else repr(str(value))


Text = Annotated[str, BeforeValidator(_text)]
Template = Annotated[str, BeforeValidator(_text)]
"""A text with actions in {{ }}, expanded for each message."""
Flag = Annotated[bool, BeforeValidator(_boolean)]
Integer = Annotated[int, BeforeValidator(_integer)]
Number = Annotated[float, BeforeValidator(_number)]
DurationMs = Annotated[int, BeforeValidator(_duration_ms)]
"""Written as 1h30m, kept in ms."""
Url = Annotated[str, BeforeValidator(_text), AfterValidator(_http_url)]
Secret = Annotated[SecretStr, BeforeValidator(_secret)]
SecretUrl = Annotated[SecretStr, BeforeValidator(_secret_url)]
PartlySecretUrl = Annotated[WebhookUrl, PlainValidator(_webhook_url)]
FilePath = Annotated[str, BeforeValidator(_text)]
"""Relative to the folder of the configuration."""
Texts = Annotated[tuple[Text, ...], BeforeValidator(_items)]
TextMap = dict[str, Text]

NO_SECRET = SecretStr("")
NO_WEBHOOK = WebhookUrl(NO_SECRET)


def read_secret(value: SecretStr, file: str) -> str:
    """A secret as it is written, or what is in its file now. Raises OSError."""
    return Path(file).read_text().strip() if file else value.get_secret_value()
