"""Variables of the environment that are settings: VARVE_SECTION__KEY, and VARVE_HOME.

Others that begin with VARVE_ are somebody else's. Kubernetes describes every service to every
container of its namespace, one called varve by VARVE_SERVICE_HOST and VARVE_PORT=tcp://...:
such variables are no settings and no reason for a word. Any other is worth a warning.
Source: Kubernetes, "Accessing the Service", environment variables.
"""

from __future__ import annotations

import difflib
import logging
import re
from collections.abc import Collection, Iterator, Mapping

PREFIX = "VARVE_"
CONFIG_FILE = "VARVE_CONFIG"
"""Names the settings file. It is read before there are settings, so it is none itself."""

_SERVICE = re.compile(
    r"VARVE_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
# Its value is a URL. A setting's of such a name would be a number.
_SERVICE_URL = re.compile(r"VARVE_(\w+_)?PORT=(tcp|udp|sctp)://.*")

log = logging.getLogger("varve.settings")


class VariableText(str):
    """The value of a variable: a text whatever its setting's type, which reads it."""

    __slots__ = ()


def variable_of(key: str) -> str:
    """The variable that sets a dotted key.

    >>> variable_of("kafka.port")
    'VARVE_KAFKA__PORT'
    """
    return PREFIX + key.upper().replace(".", "__")


def values_in(
    env: Mapping[str, str], keys: Collection[str]
) -> Iterator[tuple[str, str, VariableText]]:
    """Yields name, dotted key and value of each variable that is a setting, sorted by name.

    keys: those of all settings there are. A name with two underscores is meant as a setting even
    if there is none of that key. Logs a warning for each name that is neither a setting nor
    Kubernetes' description of a service.
    """
    known = {variable_of(key): key for key in keys}
    sections = {name.partition("__")[0] for name in known if "__" in name}
    for name, value in sorted(env.items()):
        if not name.startswith(PREFIX) or name == CONFIG_FILE:
            continue
        section, underscores, _ = name.partition("__")
        if name in known or (section in sections and underscores):
            pass
        elif _describes_service(name, value):
            continue
        elif not underscores:
            near = difflib.get_close_matches(name, [*known, CONFIG_FILE], n=1, cutoff=0.8)
            hint = f": did you mean {near[0]}?" if near else ""
            log.warning("the variable %s is no setting and is ignored%s", name, hint)
            continue
        yield name, name.removeprefix(PREFIX).lower().replace("__", "."), VariableText(value)


def _describes_service(name: str, value: str) -> bool:
    """Whether Kubernetes made the variable."""
    return bool(_SERVICE.fullmatch(name) or _SERVICE_URL.fullmatch(f"{name}={value}"))
