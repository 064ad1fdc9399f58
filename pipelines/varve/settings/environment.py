"""Which variables of the environment are settings: VARVE_SECTION__KEY, and VARVE_HOME."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

PREFIX = "VARVE_"
CONFIG_FILE = "VARVE_CONFIG"
"""Names the settings file. It is read before there are settings, so it is none itself."""


def variable_of(key: str) -> str:
    """The variable that sets a dotted key.

    >>> variable_of("kafka.port")
    'VARVE_KAFKA__PORT'
    """
    return PREFIX + key.upper().replace(".", "__")


def values_in(env: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Name, dotted key and value of each variable that is a setting, by name."""
    for name, value in sorted(env.items()):
        if name.startswith(PREFIX) and name != CONFIG_FILE:
            yield name, name.removeprefix(PREFIX).lower().replace("__", "."), value
