import pytest

from varve.setup.console import SetupError
from varve.setup.proxies import java_options


def test_without_a_proxy_java_gets_no_options():
    assert java_options({"NO_PROXY": "localhost"}) == []


def test_https_proxy_becomes_host_and_port():
    assert java_options({"HTTPS_PROXY": "http://proxy.example:3128"}) == [
        "-Dhttps.proxyHost=proxy.example",
        "-Dhttps.proxyPort=3128",
    ]


def test_lower_case_beats_upper_case_as_in_curl():
    options = java_options({"https_proxy": "http://low:1", "HTTPS_PROXY": "http://up:2"})

    assert options == ["-Dhttps.proxyHost=low", "-Dhttps.proxyPort=1"]


@pytest.mark.parametrize("text", ["proxy.example", "http://proxy.example", "http://proxy.example/"])
def test_scheme_and_port_may_be_left_out(text):
    assert java_options({"HTTP_PROXY": text}) == [
        "-Dhttp.proxyHost=proxy.example",
        "-Dhttp.proxyPort=80",
    ]


def test_all_proxy_and_pips_own_proxy_stand_in_for_both():
    expected = [
        "-Dhttp.proxyHost=p",
        "-Dhttp.proxyPort=8080",
        "-Dhttps.proxyHost=p",
        "-Dhttps.proxyPort=8080",
    ]

    assert java_options({"ALL_PROXY": "http://p:8080"}) == expected
    assert java_options({}, fallback="p:8080") == expected


def test_user_and_password_are_decoded_and_basic_tunnels_allowed():
    options = java_options({"HTTPS_PROXY": "http://jo%40x:p%3Aw@proxy:3128"})

    assert options[2:] == [
        "-Dhttp.proxyUser=jo@x",
        "-Dhttp.proxyPassword=p:w",
        "-Djdk.http.auth.tunneling.disabledSchemes=",
    ]


def test_no_proxy_names_stand_for_themselves_and_their_subdomains():
    options = java_options({"HTTPS_PROXY": "http://p:1", "NO_PROXY": "localhost, .corp.example"})

    assert options[-1] == ("-Dhttp.nonProxyHosts=localhost|*.localhost|corp.example|*.corp.example")


def test_a_proxy_java_cannot_use_is_refused_without_showing_its_password():
    with pytest.raises(SetupError, match="HTTPS_PROXY") as error:
        java_options({"HTTPS_PROXY": "socks5://jo:secret@p:1"})

    assert "secret" not in str(error.value)
