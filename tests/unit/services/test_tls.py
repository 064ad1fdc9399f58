"""A certificate that cannot be used is told of at the start, by the setting to correct."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives import serialization

from tests.certificates import write_certificates
from varve.model.errors import NeedsOperator
from varve.services.tls import tls_of
from varve.settings.query import Query


@pytest.fixture
def files(tmp_path):
    """Of two servers, each with its CA, and some that are of no use."""
    for name in ("own", "other"):
        write_certificates(tmp_path / f"{name}-ca", tmp_path / name)
    key = serialization.load_pem_private_key((tmp_path / "own").read_bytes(), None)
    locked = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked").write_bytes(locked)
    (tmp_path / "text").write_text("no certificate")
    return tmp_path


def tls(files, cert, key, client_ca=""):
    ca = str(files / client_ca) if client_ca else ""
    settings = Query(cert_file=str(files / cert), key_file=str(files / key), client_ca_file=ca)
    return tls_of(settings, "query")


def test_a_certificate_with_its_key_is_used(files):
    assert tls(files, "own", "own", "own-ca").cert_file == str(files / "own")
    assert tls_of(Query(), "query") is None


@pytest.mark.parametrize(
    ("cert", "key", "client_ca", "told"),
    [
        ("own", "other", "", "query.key_file = .*other is not the key of query.cert_file"),
        ("own", "text", "", "query.key_file = .*text have no certificate and key in PEM"),
        ("text", "own", "", "query.cert_file = .*text .*have no certificate and key in PEM"),
        ("own", "own-ca", "", "have no certificate and key in PEM"),
        ("own", "locked", "", "query.key_file = .*locked has a password: give a key without one"),
        ("own", "away", "", "there is no .*away: correct query.key_file"),
        ("own", "own", "text", "query.client_ca_file = .*text has no certificate in PEM"),
    ],
)
def test_one_that_cannot_be_used_is_told_of_by_its_setting(files, cert, key, client_ca, told):
    with pytest.raises(NeedsOperator, match=told):
        tls(files, cert, key, client_ca)
