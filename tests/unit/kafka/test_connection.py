"""Against servers that are not Kafka: a connection that fails says why, and what to correct."""

import socket
import ssl
import threading

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer

from tests.certificates import HOST, write_certificates
from varve.kafka.connection import connect
from varve.local.broker import free_port
from varve.model.errors import NeedsOperator, TemporaryError


class Server:
    """Accepts, hears a request and hangs up; with TLS if it has a certificate."""

    def __init__(self, keystore=None):
        self._tls = None
        if keystore is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(keystore)
        self._socket = socket.create_server((HOST, 0))
        self.address = f"{HOST}:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            try:
                if self._tls is not None:
                    connection = self._tls.wrap_socket(connection, server_side=True)
                connection.recv(100)
            except OSError:
                pass
            finally:
                connection.close()

    def close(self):
        self._socket.close()


@pytest.fixture
def certificates(tmp_path):
    files = tmp_path / "ca.pem", tmp_path / "server.pem"
    write_certificates(*files)
    return files


@pytest.fixture
def plain():
    server = Server()
    yield server.address
    server.close()


@pytest.fixture
def with_tls(certificates):
    server = Server(certificates[1])
    yield server.address
    server.close()


def refused(client, servers, **options):
    options |= {"bootstrap_servers": servers, "bootstrap_timeout_ms": 500}
    with pytest.raises((NeedsOperator, TemporaryError)) as caught:
        connect(client, options)
    return caught.value


@pytest.mark.parametrize("client", [KafkaProducer, KafkaConsumer, KafkaAdminClient])
def test_nobody_at_an_address_may_be_temporary(client):
    servers = f"{HOST}:{free_port()}"

    error = refused(client, servers)

    assert isinstance(error, TemporaryError)
    assert servers in str(error)
    assert "ECONNREFUSED" in str(error)


def test_a_certificate_of_an_unknown_ca_is_for_the_operator(with_tls):
    error = refused(KafkaConsumer, with_tls, security_protocol="SSL")

    assert isinstance(error, NeedsOperator)
    assert "CERTIFICATE_VERIFY_FAILED" in str(error)
    assert "kafka.ca_file" in str(error)


def test_a_server_that_speaks_no_tls_is_named_with_the_setting(plain, certificates):
    error = refused(KafkaConsumer, plain, security_protocol="SSL", ssl_cafile=str(certificates[0]))

    assert plain in str(error)
    assert "kafka.security_protocol" in str(error)


def test_a_server_that_hangs_up_is_named_with_the_setting(with_tls, certificates):
    options = {"security_protocol": "SSL", "ssl_cafile": str(certificates[0])}

    for given in (options, {}):
        error = refused(KafkaConsumer, with_tls, **given)
        assert isinstance(error, TemporaryError)
        assert "kafka.security_protocol" in str(error)


def test_a_file_of_certificates_that_is_not_there_is_named():
    error = refused(KafkaConsumer, "x:1", security_protocol="SSL", ssl_cafile="/not/there.pem")

    assert isinstance(error, NeedsOperator)
    assert "/not/there.pem" in str(error)
