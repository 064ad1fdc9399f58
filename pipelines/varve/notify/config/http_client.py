"""`http_config`: how an HTTP client authenticates, which proxy and which TLS it uses."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from varve.notify.config.fields import (
    NO_SECRET,
    Fields,
    FilePath,
    Flag,
    Secret,
    Text,
    TextMap,
    Texts,
    Url,
    is_set,
)

_TLS_VERSIONS = {"", "TLS10", "TLS11", "TLS12", "TLS13"}
# What the client sets itself, or what the other fields set.
_RESERVED_HEADERS = frozenset(
    {
        *("authorization", "host", "content-encoding", "content-length", "content-type"),
        *("user-agent", "connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("www-authenticate", "accept-encoding", "x-prometheus-remote-write-version"),
    }
)


class TlsConfig(Fields):
    ca: Text = ""
    cert: Text = ""
    key: Secret = NO_SECRET
    ca_file: FilePath = ""
    cert_file: FilePath = ""
    key_file: FilePath = ""
    ca_ref: Text = ""
    cert_ref: Text = ""
    key_ref: Text = ""
    server_name: Text = ""
    insecure_skip_verify: Flag = False
    min_version: Text = ""
    max_version: Text = ""

    exclusive = (("ca", "ca_file"), ("cert", "cert_file"), ("key", "key_file"))

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if is_set(self.cert or self.cert_file) != (is_set(self.key) or is_set(self.key_file)):
            raise ValueError("a client certificate needs both cert (cert_file) and key (key_file)")
        for version in (self.min_version, self.max_version):
            if version not in _TLS_VERSIONS:
                raise ValueError(f"unknown TLS version {version!r}; TLS10 to TLS13 are known")
        if self.ca_ref or self.cert_ref or self.key_ref:
            raise ValueError("ca_ref, cert_ref and key_ref need a secret manager; use the files")
        return self


class BasicAuth(Fields):
    username: Text = ""
    username_file: FilePath = ""
    username_ref: Text = ""
    password: Secret = NO_SECRET
    password_file: FilePath = ""
    password_ref: Text = ""

    exclusive = (("username", "username_file"), ("password", "password_file"))


class Authorization(Fields):
    type: Text = "Bearer"
    credentials: Secret = NO_SECRET
    credentials_file: FilePath = ""
    credentials_ref: Text = ""

    exclusive = (("credentials", "credentials_file"),)

    @model_validator(mode="after")
    def _is_no_basic(self) -> Self:
        if self.type.strip().lower() == "basic":
            raise ValueError('type cannot be "basic", use basic_auth instead')
        return self


class ProxyFields(Fields):
    proxy_url: Text = ""
    no_proxy: Text = ""
    proxy_from_environment: Flag = False
    proxy_connect_header: dict[str, tuple[Secret, ...]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_proxy(self) -> Self:
        if self.proxy_from_environment and (self.proxy_url or self.no_proxy):
            raise ValueError("proxy_from_environment excludes proxy_url and no_proxy")
        if self.no_proxy and not self.proxy_url:
            raise ValueError("no_proxy needs proxy_url")
        if self.proxy_connect_header and not (self.proxy_url or self.proxy_from_environment):
            raise ValueError("proxy_connect_header needs proxy_url or proxy_from_environment")
        return self


class OAuth2(ProxyFields):
    client_id: Text = ""
    client_secret: Secret = NO_SECRET
    client_secret_file: FilePath = ""
    client_secret_ref: Text = ""
    client_certificate_key_id: Text = ""
    client_certificate_key: Secret = NO_SECRET
    client_certificate_key_file: FilePath = ""
    client_certificate_key_ref: Text = ""
    grant_type: Text = ""
    signature_algorithm: Text = ""
    iss: Text = ""
    audience: Text = ""
    claims: TextMap = Field(default_factory=dict)
    scopes: Texts = ()
    token_url: Text = ""
    endpoint_params: TextMap = Field(default_factory=dict)
    tls_config: TlsConfig = TlsConfig()

    exclusive = (("client_secret", "client_secret_file"),)

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.client_id:
            raise ValueError("oauth2 client_id must be configured")
        if not self.token_url:
            raise ValueError("oauth2 token_url must be configured")
        if self.grant_type not in {"", "client_credentials"}:
            raise ValueError(f"grant_type {self.grant_type!r} is not supported; use client_secret")
        return self


class Header(Fields):
    values: Texts = ()
    secrets: tuple[Secret, ...] = ()
    files: Texts = ()


class HttpConfig(ProxyFields):
    basic_auth: BasicAuth | None = None
    authorization: Authorization | None = None
    oauth2: OAuth2 | None = None
    bearer_token: Secret = NO_SECRET
    bearer_token_file: FilePath = ""
    tls_config: TlsConfig = TlsConfig()
    follow_redirects: Flag = True
    enable_http2: Flag = True
    http_headers: dict[str, Header] = Field(default_factory=dict)

    exclusive = (("bearer_token", "bearer_token_file"),)

    @model_validator(mode="after")
    def _one_way_in(self) -> Self:
        bearer = is_set(self.bearer_token) or is_set(self.bearer_token_file)
        given = [self.basic_auth, self.authorization, self.oauth2, bearer or None]
        if sum(way is not None for way in given) > 1:
            raise ValueError(
                "at most one of basic_auth, authorization, oauth2 and bearer_token may be set"
            )
        for name in self.http_headers:
            if name.lower() in _RESERVED_HEADERS:
                raise ValueError(f"the header {name!r} cannot be set by http_headers")
        return self


class SigV4(Fields):
    """How requests to AWS are signed."""

    region: Text = ""
    access_key: Text = ""
    secret_key: Secret = NO_SECRET
    profile: Text = ""
    role_arn: Text = ""
    external_id: Text = ""
    use_fips_sts_endpoint: Flag = False
    service_name: Text = ""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if is_set(self.access_key) != is_set(self.secret_key):
            raise ValueError("access_key and secret_key must be given together, or neither")
        return self


class Tracing(Fields):
    """Where spans would go. It is read for the sake of files that have it; none are sent."""

    client_type: Text = "grpc"
    endpoint: Text = ""
    sampling_fraction: Text = ""
    insecure: Flag = False
    tls_config: TlsConfig = TlsConfig()
    headers: TextMap = Field(default_factory=dict)
    compression: Text = ""
    timeout: Text = ""


NO_URL: Url = ""
