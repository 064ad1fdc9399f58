import pytest

from varve.services.own_services import DIRECT, opener_to


def proxies_of(opener):
    return [p for h in opener.handlers for p in getattr(h, "proxies", {}).values()]


@pytest.mark.parametrize(
    "url",
    [
        "http://localhost:9690",
        "http://LOCALHOST:9690",
        "http://a.localhost",
        "http://127.0.0.1:9690",
        "http://127.8.8.8",
        "http://[::1]:9690",
        "http://0.0.0.0:9690",
    ],
)
def test_this_machine_is_reached_through_no_proxy(url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")

    assert proxies_of(opener_to(url)) == []
    assert proxies_of(DIRECT) == []


@pytest.mark.parametrize(
    "url", ["http://metrics.example.com", "http://10.1.2.3", "http://localhost.example.com"]
)
def test_another_machine_is_reached_as_the_environment_says(url, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://proxy:3128")

    assert "http://proxy:3128" in proxies_of(opener_to(url))
