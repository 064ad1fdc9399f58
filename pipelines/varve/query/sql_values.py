"""Values of DuckDB as JSON has them."""

from __future__ import annotations

import datetime as dt
import math
from typing import Any


def plain(value: Any) -> Any:
    """A value that json.dumps takes, with default=str for the rest. NaN and the infinities are
    text, times are RFC 3339, bytes are text where they are UTF-8.
    """
    match value:
        case float() if math.isnan(value):
            return "NaN"
        case float() if math.isinf(value):
            return "+Inf" if value > 0 else "-Inf"
        case dt.datetime():
            return value.isoformat(sep="T") + ("Z" if value.tzinfo is None else "")
        case bytes():
            return _text(value)
        case dict():
            return {str(key): plain(inner) for key, inner in value.items()}
        case list():
            return [plain(inner) for inner in value]
    return value


def _text(value: bytes) -> str:
    """Bytes as text where they are UTF-8, else as hex digits behind a backslash and an x."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return f"\\x{value.hex()}"
