"""The proxy of the user's environment, in the words of a JVM."""

from collections.abc import Iterator, Mapping
from urllib.parse import unquote, urlsplit

from varve.setup.console import SetupError

_DEFAULT_PORTS = {"http": 80, "https": 443}


def java_options(env: Mapping[str, str], fallback: str | None = None) -> list[str]:
    """System properties for HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY (or in lower case).

    `fallback` is the proxy to take when none of the variables names one: pip's own setting.
    The list may hold a password: pass it by file, not on a command line.
    Raises SetupError for a proxy that is no http URL.
    """
    options: list[str] = []
    for scheme in ("http", "https"):
        url = _variable(env, f"{scheme}_proxy") or _variable(env, "all_proxy") or fallback
        if url:
            options.extend(_proxy(scheme, url))
    if options and (exceptions := _variable(env, "no_proxy")):
        options.append("-Dhttp.nonProxyHosts=" + "|".join(_patterns(exceptions)))
    return options


def _variable(env: Mapping[str, str], name: str) -> str:
    return env.get(name) or env.get(name.upper()) or ""


def _proxy(scheme: str, url: str) -> Iterator[str]:
    parts = urlsplit(url if "//" in url else f"http://{url}")
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname:
        raise SetupError(
            f"the {scheme} proxy must be like http://HOST:PORT for Java to use it:"
            f" set {scheme.upper()}_PROXY accordingly."
        )
    yield f"-D{scheme}.proxyHost={parts.hostname}"
    yield f"-D{scheme}.proxyPort={parts.port or _DEFAULT_PORTS[parts.scheme]}"
    if parts.username:
        # Ivy answers a proxy's challenge with these two, for http and https alike. Java refuses
        # basic authentication for tunnels unless told otherwise.
        yield f"-Dhttp.proxyUser={unquote(parts.username)}"
        yield f"-Dhttp.proxyPassword={unquote(parts.password or '')}"
        yield "-Djdk.http.auth.tunneling.disabledSchemes="


def _patterns(exceptions: str) -> Iterator[str]:
    """NO_PROXY's names, each with its subdomains, as Java's patterns."""
    for entry in exceptions.split(","):
        name = entry.strip().removeprefix("*").removeprefix(".")
        if not name and entry.strip() == "*":
            yield "*"
        elif name:
            yield name
            yield f"*.{name}"
