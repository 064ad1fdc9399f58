"""What a remote write request says it is, judged before a byte of its body is expanded.

Source: Prometheus, "Remote-Write 1.0" and "2.0" specifications, section Protocol.
"""

from __future__ import annotations

import enum

from varve.gateway.refusals import Refused

_MEDIA_TYPE = "application/x-protobuf"


class Version(enum.IntEnum):
    """Of remote write."""

    V1 = 1
    V2 = 2


_MESSAGES = {
    "prometheus.WriteRequest": Version.V1,
    "io.prometheus.write.v2.Request": Version.V2,
}


def version_of(content_type: str, content_encoding: str) -> Version:
    """The version that the headers name. Raises Refused, 415, for anything else.

    Empty headers mean 1.0 in snappy, which old senders did not say.

    >>> version_of("application/x-protobuf;proto=io.prometheus.write.v2.Request", "snappy")
    <Version.V2: 2>
    """
    encoding = content_encoding.strip().lower()
    if encoding not in ("", "snappy"):
        raise Refused(415, f"content-encoding is snappy, not {encoding[:40]!r}")
    media_type, *parameters = [part.strip() for part in content_type.split(";")]
    if media_type.lower() not in ("", _MEDIA_TYPE):
        raise Refused(415, f"content-type is {_MEDIA_TYPE}, not {media_type[:80]!r}")
    message = "prometheus.WriteRequest"
    for parameter in parameters:
        name, equals, value = parameter.partition("=")
        if parameter and not equals:
            raise Refused(415, f"content-type has a parameter without a value: {parameter[:80]!r}")
        if name.strip().lower() == "proto":
            message = value.strip().strip('"')
    if message not in _MESSAGES:
        raise Refused(415, f"proto is one of {', '.join(_MESSAGES)}, not {message[:80]!r}")
    return _MESSAGES[message]
