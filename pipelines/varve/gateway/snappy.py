"""Expands bodies in snappy's block format, within a bound.

Source: google/snappy, format_description.txt.
"""

from __future__ import annotations

import cramjam
import numpy as np

from varve.gateway.refusals import Malformed, Refused

# The densest element is a copy of 64 bytes that takes 3; so no body expands further than that.
_COPY_BYTES, _COPIED = 3, 64


def expand(body: bytes, most: int) -> np.ndarray:
    """The content of a body, uint8. Raises Malformed, and Refused (413) if it is over `most` bytes.

    The length that the body declares is believed only as far as its own length allows it, so a lie
    takes no memory.
    """
    length = _declared(body)
    if length > most:
        raise Refused(413, f"the body expands to {length:,} bytes, over the {most:,} allowed")
    if length > (len(body) // _COPY_BYTES + 1) * _COPIED:
        raise Malformed(f"the body declares {length:,} bytes, which its {len(body):,} cannot be")
    content = np.empty(length, np.uint8)
    try:
        written = cramjam.snappy.decompress_raw_into(body, memoryview(content))
    except cramjam.DecompressionError as err:
        raise Malformed(f"the body is not in snappy's block format: {err}") from err
    if written != length:
        raise Malformed(f"the body declares {length:,} bytes and has {written:,}")
    content.flags.writeable = False
    return content


def _declared(body: bytes) -> int:
    """The length that a body begins with."""
    length = 0
    for n, byte in enumerate(body[:5]):
        length |= (byte & 0x7F) << 7 * n
        if byte < 0x80:
            return length
    raise Malformed("the body is not in snappy's block format: it declares no length")
