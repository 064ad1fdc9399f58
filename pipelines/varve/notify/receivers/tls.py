"""TLS contexts as `tls_config` describes them."""

from __future__ import annotations

import ssl
import tempfile
from functools import cache
from pathlib import Path

from varve.notify.config.http_client import TlsConfig

_VERSIONS = {
    "TLS10": ssl.TLSVersion.TLSv1,
    "TLS11": ssl.TLSVersion.TLSv1_1,
    "TLS12": ssl.TLSVersion.TLSv1_2,
    "TLS13": ssl.TLSVersion.TLSv1_3,
}


def tls_context(config: TlsConfig) -> ssl.SSLContext:
    """A client's context. Reads the files that are named; raises OSError, ssl.SSLError."""
    return _common_context() if config == TlsConfig() else _context(config)


@cache
def _common_context() -> ssl.SSLContext:
    """Made once: to read the certificates of the system takes 70 ms."""
    return _context(TlsConfig())


def _context(config: TlsConfig) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=config.ca_file or None, cadata=config.ca or None)
    if config.insecure_skip_verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if config.cert_file and config.key_file:
        context.load_cert_chain(config.cert_file, config.key_file)
    elif config.cert or config.cert_file:
        _load_inline(context, config)
    context.minimum_version = _VERSIONS.get(config.min_version, ssl.TLSVersion.TLSv1_2)
    if config.max_version:
        context.maximum_version = _VERSIONS[config.max_version]
    return context


def _load_inline(context: ssl.SSLContext, config: TlsConfig) -> None:
    """Python reads certificates from files only: one that no one else can read, for a moment."""
    cert = config.cert or Path(config.cert_file).read_text()
    key = config.key.get_secret_value() or Path(config.key_file).read_text()
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(f"{cert}\n{key}\n")
        file.flush()
        context.load_cert_chain(file.name)
