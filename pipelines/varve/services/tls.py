"""The certificate of a service that listens for others."""

from __future__ import annotations

from pathlib import Path

from varve.api.server import Tls
from varve.model.errors import NeedsOperator
from varve.settings.listener import Listener


def tls_of(listener: Listener, section: str) -> Tls | None:
    """What the settings of a section say; None without a certificate. NeedsOperator, naming the
    setting, if a file is missing.
    """
    if not listener.cert_file:
        return None
    for name in ("cert_file", "key_file", "client_ca_file"):
        file = getattr(listener, name)
        if file and not Path(file).is_file():
            raise NeedsOperator(f"there is no {file}: correct {section}.{name}")
    return Tls(listener.cert_file, listener.key_file, listener.client_ca_file)
