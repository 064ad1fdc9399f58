"""How a scrape proves who it is, and whom it believes: TLS, logins and proxies of a job."""

from __future__ import annotations

import asyncio
import ssl

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from tests.certificates import write_certificates
from varve.gateway.scrape.config import ScrapeConfig
from varve.gateway.scrape.fetch import ScrapeFailed, TargetClient


def read(url, times=1, **job):
    async def story():
        client = TargetClient(ScrapeConfig.model_validate({"job_name": "j"} | job), ())
        try:
            return [(await client.read(url, 10_000)).body for _ in range(times)][-1]
        finally:
            await client.close()

    return asyncio.run(story())


@pytest.fixture
def target():
    """A target that knows who may read it, and what it was asked."""
    with HTTPServer() as server:
        yield server


@pytest.fixture(scope="module")
def pem(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pem")
    write_certificates(folder / "ca.pem", folder / "pair.pem")
    write_certificates(folder / "other-ca.pem", folder / "other-pair.pem")
    return folder


@pytest.fixture
def over_tls(pem, request):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem / "pair.pem")
    if getattr(request, "param", ""):
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(pem / request.param)
    with HTTPServer(host="localhost", ssl_context=context) as server:
        server.expect_request("/metrics").respond_with_data("m 1\n")
        yield server.url_for("/metrics")


def test_a_certificate_is_believed_if_its_ca_is_or_if_nobody_is_to_look(over_tls, pem):
    ca, other = str(pem / "ca.pem"), str(pem / "other-ca.pem")

    assert read(over_tls, tls_config={"ca_file": ca}) == b"m 1\n"
    assert read(over_tls, tls_config={"insecure_skip_verify": True}) == b"m 1\n"
    for believed in ({}, {"ca_file": other}, {"ca_file": ca, "server_name": "else.example"}):
        with pytest.raises(ScrapeFailed, match="certificate verify failed"):
            read(over_tls, tls_config=believed)


@pytest.mark.parametrize("over_tls", ["ca.pem"], indirect=True)
def test_a_certificate_of_ones_own_is_shown_to_who_asks_for_it(over_tls, pem):
    def job(pair):
        name = str(pem / pair)
        return {"ca_file": str(pem / "ca.pem"), "cert_file": name, "key_file": name}

    assert read(over_tls, tls_config=job("pair.pem")) == b"m 1\n"
    for tls in (job("other-pair.pem"), {"ca_file": str(pem / "ca.pem")}):
        with pytest.raises(ScrapeFailed):
            read(over_tls, tls_config=tls)


@pytest.mark.parametrize(
    ("job", "header"),
    [
        ({"basic_auth": {"username": "u", "password": "p"}}, "Basic dTpw"),
        ({"authorization": {"credentials": "secret"}}, "Bearer secret"),
        ({"authorization": {"type": "Token", "credentials": "x"}}, "Token x"),
        ({"bearer_token": "old"}, "Bearer old"),
    ],
)
def test_a_job_logs_in(target, job, header):
    target.expect_request("/metrics", headers={"Authorization": header}).respond_with_data("m 1\n")

    assert read(target.url_for("/metrics"), **job) == b"m 1\n"
    with pytest.raises(ScrapeFailed, match="500"):
        read(target.url_for("/metrics"))


def test_a_password_in_a_file_is_read_at_each_scrape(target, tmp_path):
    seen = []

    def answer(request):
        seen.append(request.authorization.password)
        (tmp_path / "password").write_text("second\n")
        return Response("m 1\n")

    target.expect_request("/metrics").respond_with_handler(answer)
    (tmp_path / "password").write_text("first\n")
    login = {"username": "u", "password_file": str(tmp_path / "password")}

    read(target.url_for("/metrics"), times=2, basic_auth=login)

    assert seen == ["first", "second"]


def test_a_token_of_oauth2_is_fetched_once_and_shown(target):
    forms = []

    def token(request):
        forms.append(request.form.to_dict())
        return Response('{"access_token": "T", "expires_in": 3600}', mimetype="application/json")

    target.expect_request("/token", method="POST").respond_with_handler(token)
    shown = {"Authorization": "Bearer T"}
    target.expect_request("/metrics", headers=shown).respond_with_data("m 1\n")
    login = {"client_id": "c", "client_secret": "s", "token_url": target.url_for("/token")}

    assert read(target.url_for("/metrics"), times=2, oauth2=login) == b"m 1\n"
    assert forms == [{"grant_type": "client_credentials"}]


def test_a_proxy_is_asked_instead_of_the_target(target):
    asked = []

    def answer(request):
        asked.append(request.url)
        return Response("m 1\n")

    target.expect_request("/metrics").respond_with_handler(answer)
    proxy = target.url_for("")

    assert read("http://far.example/metrics", proxy_url=proxy) == b"m 1\n"
    assert asked == ["http://far.example/metrics"]
    near = target.url_for("/metrics")
    assert read(near, proxy_url="http://127.0.0.1:1", no_proxy="localhost") == b"m 1\n"
