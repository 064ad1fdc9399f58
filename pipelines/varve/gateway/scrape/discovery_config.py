"""`static_configs`, `file_sd_configs` and the like: where targets are found."""

from __future__ import annotations

import re
from typing import Any, Self

from pydantic import Field, model_validator

from varve.notify.config.fields import (
    NO_SECRET,
    DurationMs,
    Fields,
    Flag,
    Integer,
    Secret,
    Text,
    TextMap,
    Texts,
    Url,
    is_set,
)
from varve.notify.config.http_client import HttpConfig

_FILE = re.compile(r"[^*]*(?:\*[^/]*)?\.(?:json|yml|yaml|JSON|YML|YAML)")
_ROLES = frozenset({"node", "pod", "service", "endpoints", "endpointslice", "ingress"})

NOT_SUPPORTED = frozenset(
    {
        *("aws", "azure", "digitalocean", "docker", "dockerswarm", "ec2", "ecs", "eureka", "gce"),
        *("hetzner", "ionos", "kuma", "lightsail", "linode", "marathon", "nerve", "nomad"),
        *("openstack", "ovhcloud", "puppetdb", "scaleway", "serverset", "stackit", "triton"),
        *("uyuni", "vultr"),
    }
)
"""Kinds of discovery that Prometheus has and Varve has not."""


class StaticConfig(Fields):
    """A group of targets with labels they have in common."""

    targets: Texts = ()
    labels: TextMap = Field(default_factory=dict)


class FileSdConfig(Fields):
    files: Texts = ()
    refresh_interval: DurationMs = 300_000

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.files:
            raise ValueError("file_sd_configs wants at least one file")
        for file in self.files:
            if not _FILE.fullmatch(file):
                raise ValueError(
                    f"{file!r} is no path of a .json, .yml or .yaml file with at most one * in its"
                    " last part"
                )
        return self


class HttpSdConfig(HttpConfig):
    url: Url = ""
    refresh_interval: DurationMs = 60_000

    @model_validator(mode="after")
    def _has_url(self) -> Self:
        if not self.url:
            raise ValueError("http_sd_configs wants a url")
        return self


class DnsSdConfig(Fields):
    names: Texts = ()
    refresh_interval: DurationMs = 30_000
    type: Text = "SRV"
    port: Integer = 0

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        object.__setattr__(self, "type", self.type.upper())
        if not self.names:
            raise ValueError("dns_sd_configs wants at least one name")
        if self.type not in ("SRV", "A", "AAAA", "MX", "NS"):
            raise ValueError(f"unknown type of DNS records {self.type!r}; SRV, A, AAAA, MX and NS")
        if self.type != "SRV" and not self.port:
            raise ValueError(f"a port is wanted for records of the type {self.type}")
        return self


class ConsulSdConfig(HttpConfig):
    server: Text = "localhost:8500"
    path_prefix: Text = ""
    token: Secret = NO_SECRET
    datacenter: Text = ""
    namespace: Text = ""
    partition: Text = ""
    tag_separator: Text = ","
    scheme: Text = "http"
    username: Text = ""
    password: Secret = NO_SECRET
    allow_stale: Flag = True
    refresh_interval: DurationMs = 30_000
    services: Texts = ()
    tags: Texts = ()
    node_meta: TextMap = Field(default_factory=dict)
    filter: Text = ""
    health_filter: Text = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if not self.server.strip():
            raise ValueError("consul_sd_configs wants a server")
        if (self.username or is_set(self.password)) and self.basic_auth is not None:
            raise ValueError("at most one of username and password, and basic_auth may be set")
        ways = (self.basic_auth, self.authorization, self.oauth2)
        if is_set(self.token) and any(way is not None for way in ways):
            raise ValueError("at most one of token, basic_auth, authorization, oauth2 may be set")
        return self


class Namespaces(Fields):
    names: Texts = ()
    own_namespace: Flag = False


class Selector(Fields):
    role: Text = ""
    label: Text = ""
    field: Text = ""


class AttachMetadata(Fields):
    node: Flag = False
    namespace: Flag = False
    deployment: Flag = False
    job: Flag = False
    cronjob: Flag = False


class KubernetesSdConfig(HttpConfig):
    api_server: Text = ""
    role: Text = ""
    kubeconfig_file: Text = ""
    namespaces: Namespaces = Namespaces()
    selectors: tuple[Selector, ...] = ()
    attach_metadata: AttachMetadata = AttachMetadata()

    @model_validator(mode="after")
    def _is_whole(self) -> Self:
        if self.role not in _ROLES:
            raise ValueError(f"role is one of {', '.join(sorted(_ROLES))}, not {self.role!r}")
        if self.api_server and self.kubeconfig_file:
            raise ValueError("at most one of api_server and kubeconfig_file may be set")
        ways = (self.basic_auth, self.authorization, self.oauth2)
        if not self.api_server and any(way is not None for way in ways):
            raise ValueError("logins and the like of kubernetes_sd_configs want an api_server")
        for selector in self.selectors:
            if selector.role not in _ROLES:
                raise ValueError(f"a selector has the unknown role {selector.role!r}")
        return self


def require_supported(fields: Any) -> Any:
    """Raises ValueError, saying what to do, for a kind of discovery that Varve has not."""
    for name in fields if isinstance(fields, dict) else ():
        kind = str(name).removesuffix("_sd_configs")
        if kind != name and kind in NOT_SUPPORTED:
            raise ValueError(
                f"{name} is not supported: let a file or an HTTP endpoint say these targets, in"
                " file_sd_configs or http_sd_configs"
            )
    return fields
