"""Where a cluster's API is and how one logs in: from the configuration, a kubeconfig, or a pod."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from varve.gateway.scrape.discovery_config import KubernetesSdConfig
from varve.gateway.scrape.targets import host_port
from varve.notify.config.http_client import HttpConfig

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")


def cluster_of(
    config: KubernetesSdConfig,
    folder: Path,
    *,
    environment: Mapping[str, str] = os.environ,
    account: Path = SERVICE_ACCOUNT,
) -> tuple[str, HttpConfig]:
    """The address of the API, and how a client talks to it. folder: relative paths begin there.
    Raises ValueError, OSError.
    """
    if config.api_server:
        return config.api_server.rstrip("/"), config
    if config.kubeconfig_file:
        return _of_kubeconfig(folder / config.kubeconfig_file)
    host = environment.get("KUBERNETES_SERVICE_HOST")
    if not host:
        raise ValueError(
            "kubernetes_sd_configs: this is no pod of a cluster (KUBERNETES_SERVICE_HOST is not"
            " set): say api_server or kubeconfig_file"
        )
    port = int(environment.get("KUBERNETES_SERVICE_PORT", "443"))
    client = {
        "tls_config": {"ca_file": str(account / "ca.crt")},
        "authorization": {"credentials_file": str(account / "token")},
    }
    return f"https://{host_port(host, port)}", HttpConfig.model_validate(client)


def own_namespace(account: Path = SERVICE_ACCOUNT) -> str:
    """The namespace of the pod that this runs in. Raises OSError outside of one."""
    return (account / "namespace").read_text().strip()


def _of_kubeconfig(path: Path) -> tuple[str, HttpConfig]:
    try:
        tree = yaml.safe_load(path.read_text())
        context = _named(tree, "contexts", tree["current-context"])["context"]
        cluster = _named(tree, "clusters", context["cluster"])["cluster"]
        user = _named(tree, "users", context["user"])["user"] if context.get("user") else {}
        server = str(cluster["server"]).rstrip("/")
    except (yaml.YAMLError, KeyError, TypeError) as err:
        raise ValueError(f"{path} is no kubeconfig with a current context: {err}") from err
    if "exec" in user or "auth-provider" in user:
        raise ValueError(
            f"{path}: logins by a program (exec, auth-provider) are not run; use a token, tokenFile"
            " or a client certificate"
        )
    tls: dict[str, Any] = {
        "insecure_skip_verify": bool(cluster.get("insecure-skip-tls-verify")),
        "server_name": cluster.get("tls-server-name", ""),
    }
    parts = (("ca", cluster, "certificate-authority"), ("cert", user, "client-certificate"))
    for name, source, key in (*parts, ("key", user, "client-key")):
        if data := source.get(f"{key}-data"):
            tls[name] = base64.b64decode(data).decode()
        elif file := source.get(key):
            tls[f"{name}_file"] = str(path.parent / file)
    client: dict[str, Any] = {"tls_config": tls}
    if file := user.get("tokenFile"):
        client["authorization"] = {"credentials_file": str(path.parent / file)}
    elif token := user.get("token"):
        client["authorization"] = {"credentials": token}
    elif user.get("username"):
        client["basic_auth"] = {"username": user["username"], "password": user.get("password", "")}
    return server, HttpConfig.model_validate(client)


def _named(tree: Mapping[str, Any], kind: str, name: str) -> Mapping[str, Any]:
    for entry in tree.get(kind) or ():
        if entry["name"] == name:
            return dict(entry)
    raise KeyError(f"{kind} has no {name}")
