"""Files that a person has written: text in UTF-8, whatever the locale of this machine is."""

from __future__ import annotations

import codecs
from pathlib import Path

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


def read_text(file: Path) -> str:
    """The text of a file. Raises OSError, and ValueError as `decoded`."""
    return decoded(file.read_bytes(), str(file))


def decoded(content: bytes, origin: str) -> str:
    """The text of some UTF-8, without the byte order mark that some editors write before it.

    Raises ValueError, in one line that names the origin, if it is of another encoding.
    """
    if content.startswith(_UTF16) or b"\0" in content:
        raise ValueError(f"{origin} is in UTF-16, not in UTF-8: save it as UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as err:
        line = content.count(b"\n", 0, err.start) + 1
        raise ValueError(
            f"{origin} is not in UTF-8 (line {line} has the byte 0x{content[err.start]:02X}): save"
            " it as UTF-8"
        ) from err
