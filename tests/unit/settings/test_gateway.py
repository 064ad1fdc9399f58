import pytest

from varve.model.errors import NeedsOperator
from varve.settings import load


def test_a_gateway_that_others_reach_wants_to_know_who_they_are():
    for host in ("0.0.0.0", "::", "192.168.1.7", "metrics.example.org"):
        with pytest.raises(NeedsOperator, match=r"set tokens, users or client_ca_file"):
            load(env={"VARVE_GATEWAY__HOST": host})
        settings, _ = load(
            env={"VARVE_GATEWAY__HOST": host, "VARVE_GATEWAY__TOKENS__TEAM": "hush-hush"}
        )
        assert settings.gateway.host == host
        assert "hush-hush" not in str(settings)
        assert "hush-hush" in settings.secrets()

    for host in ("127.0.0.1", "127.0.0.2", "::1", "localhost"):
        assert load(env={"VARVE_GATEWAY__HOST": host})[0].gateway.host == host


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"CERT_FILE": "a.pem"}, "go together"),
        ({"KEY_FILE": "a.pem"}, "go together"),
        ({"CLIENT_CA_FILE": "a.pem"}, "no use without"),
        ({"COMPRESSION": "lz4"}, "compression"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(variables, complaint):
    with pytest.raises(NeedsOperator, match=complaint):
        load(env={f"VARVE_GATEWAY__{name}": value for name, value in variables.items()})
