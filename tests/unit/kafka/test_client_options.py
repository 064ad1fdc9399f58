import pytest

from varve.kafka.client_options import client_options
from varve.model.errors import NeedsOperator


def test_kafkas_names_become_the_python_clients():
    assert client_options(
        {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": "SCRAM-SHA-512",
            "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required"
            ' username="varve" password="a\\"b";',
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": "/etc/ca.pem",
            "request.timeout.ms": "5000",
        }
    ) == {
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "varve",
        "sasl_plain_password": 'a"b',
        "ssl_cafile": "/etc/ca.pem",
        "request_timeout_ms": 5000,
    }


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"security.protocoll": "SSL"}, "security.protocoll"),
        ({"security.protocol": "SASL-SSL"}, "not SASL-SSL"),
        ({"ssl.truststore.location": "/etc/trust.jks"}, "PEM"),
        ({"request.timeout.ms": "30s"}, "request.timeout.ms is a whole number, not 30s"),
        ({"sasl.jaas.config": "Krb5LoginModule required;"}, "PlainLoginModule"),
    ],
)
def test_an_option_that_cannot_be_honoured_is_refused(options, words):
    with pytest.raises(NeedsOperator, match=words):
        client_options(options)


def test_a_password_is_not_in_the_error():
    with pytest.raises(NeedsOperator) as caught:
        client_options({"sasl.jaas.config": 'PlainLoginModule required password="secret";'})

    assert "secret" not in str(caught.value)


def test_what_tunes_sparks_clients_is_left_to_them():
    assert client_options({"max.poll.records": "100", "group.id": "varve"}) == {}
