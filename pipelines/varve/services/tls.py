"""The certificate of a service that listens for others."""

from __future__ import annotations

import ssl
from pathlib import Path

from varve.api.server import Tls
from varve.model.errors import NeedsOperator
from varve.settings.listener import Listener


def tls_of(listener: Listener, section: str) -> Tls | None:
    """What the settings of a section say; None without a certificate. NeedsOperator, naming the
    setting, if a file is missing or of no use.
    """
    if not listener.cert_file:
        return None
    for name in ("cert_file", "key_file", "client_ca_file"):
        file = getattr(listener, name)
        if file and not Path(file).is_file():
            raise NeedsOperator(f"there is no {file}: correct {section}.{name}")
    _require_usable(listener, section)
    return Tls(listener.cert_file, listener.key_file, listener.client_ca_file)


class _IsEncryptedError(Exception):
    """The key has a password, which nobody is there to type."""


def _require_usable(listener: Listener, section: str) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = f"{section}.key_file = {listener.key_file}"
    try:
        context.load_cert_chain(listener.cert_file, listener.key_file, _no_password)
    except _IsEncryptedError as err:
        raise NeedsOperator(f"{key} has a password: give a key without one") from err
    except ssl.SSLError as err:
        whole = f"{section}.cert_file = {listener.cert_file}"
        if err.reason == "KEY_VALUES_MISMATCH":
            raise NeedsOperator(f"{key} is not the key of {whole}: give its own") from err
        raise NeedsOperator(f"{whole} and {key} have no certificate and key in PEM: {err}") from err
    except OSError as err:
        raise NeedsOperator(f"cannot read the certificate of {section}: {err}") from err
    if listener.client_ca_file:
        try:
            context.load_verify_locations(listener.client_ca_file)
        except OSError as err:  # an SSLError is one
            text = f"{section}.client_ca_file = {listener.client_ca_file} has no certificate in PEM"
            raise NeedsOperator(f"{text}: {err}") from err


def _no_password() -> str:
    raise _IsEncryptedError
