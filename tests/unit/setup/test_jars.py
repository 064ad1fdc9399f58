import hashlib
import os
import shutil
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from varve.setup.console import SetupError
from varve.setup.jars import Ivy, differences, expected_sums, install_jars, jars_folder
from varve.setup.java import find_java
from varve.setup.proxies import java_options

MODULE = """<ivy-module version="2.0">
  <info organisation="test" module="{kind}"/>
  <configurations defaultconfmapping="default->default"><conf name="default"/></configurations>
  <dependencies><dependency org="org.example" name="{kind}-stone" rev="1.0"/></dependencies>
</ivy-module>
"""
POM = """<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId>
<artifactId>{kind}-stone</artifactId><version>1.0</version></project>
"""
KINDS = ("spark", "kafka")

ivy_jar = next(Path(sys.prefix).glob("lib/python*/site-packages/pyspark/jars/ivy-*.jar"), None)
pytestmark = pytest.mark.skipif(
    ivy_jar is None or shutil.which("java") is None, reason="needs Java and pyspark's Ivy"
)


@pytest.fixture
def env(tmp_path, monkeypatch):
    """The user's environment, with a home directory of its own: Ivy's cache is there."""
    home = tmp_path / "home of ann"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    return dict(os.environ)


@pytest.fixture
def repository(tmp_path):
    """A Maven repository in a folder with a jar for each kind."""
    for kind in KINDS:
        folder = tmp_path / "repository" / "org" / "example" / f"{kind}-stone" / "1.0"
        folder.mkdir(parents=True)
        (folder / f"{kind}-stone-1.0.pom").write_text(POM.format(kind=kind))
        (folder / f"{kind}-stone-1.0.jar").write_bytes(b"PK" + kind.encode())
    return tmp_path / "repository"


@pytest.fixture
def checkout(tmp_path):
    """A checkout with a space and a bracket in its path, and its sums."""
    root = tmp_path / "my [checkout]"
    (root / "conf").mkdir(parents=True)
    lines = ["# sums"]
    for kind in KINDS:
        (root / "conf" / f"ivy-{kind}.xml").write_text(MODULE.format(kind=kind))
        digest = hashlib.sha256(b"PK" + kind.encode()).hexdigest()
        lines.append(f"{digest}  {kind}/{kind}-stone-1.0.jar")
    (root / "conf" / "jars.sha256").write_text("\n".join(lines) + "\n")
    return root


def ivy(env, repository):
    return Ivy(ivy_jar, env, options=[], mirror=repository.as_uri())


def install(checkout, env, ivy):
    return install_jars(checkout, checkout / ".venv", lambda: find_java(env), ivy)


def wrong(checkout):
    folder = jars_folder(checkout / ".venv")
    return {k: differences(folder / k, sums) for k, sums in expected_sums(checkout).items()}


def test_jars_come_from_the_mirror_and_a_second_time_nothing_is_done(checkout, env, repository):
    assert install(checkout, env, ivy(env, repository)) is True
    assert wrong(checkout) == {"spark": [], "kafka": []}

    shutil.rmtree(repository)
    assert install(checkout, env, ivy(env, repository)) is False


def test_a_damaged_and_a_foreign_jar_are_noticed_and_made_good(checkout, env, repository):
    install(checkout, env, ivy(env, repository))
    folder = jars_folder(checkout / ".venv") / "kafka"
    (folder / "kafka-stone-1.0.jar").write_bytes(b"PK cut")
    (folder / "old-0.9.jar").write_bytes(b"PK")
    assert wrong(checkout)["kafka"] == ["kafka-stone-1.0.jar", "old-0.9.jar"]

    install(checkout, env, ivy(env, repository))

    assert wrong(checkout) == {"spark": [], "kafka": []}


def test_a_jar_damaged_in_ivys_cache_is_fetched_past_it(checkout, env, repository):
    install(checkout, env, ivy(env, repository))
    cached = next((Path(env["HOME"]) / ".ivy2").rglob("spark-stone-1.0.jar"))
    cached.write_bytes(b"PK rotten")
    shutil.rmtree(checkout / ".venv")

    install(checkout, env, ivy(env, repository))

    assert wrong(checkout) == {"spark": [], "kafka": []}


def test_a_jar_that_is_not_the_committed_one_is_refused_and_none_installed(
    checkout, env, repository
):
    forged = next(repository.rglob("spark-stone-1.0.jar"))
    forged.write_bytes(b"PK forged")

    with pytest.raises(SetupError, match=r"spark-stone-1\.0\.jar"):
        install(checkout, env, ivy(env, repository))

    assert not (jars_folder(checkout / ".venv") / "spark").exists()


def test_a_repository_without_the_jars_is_an_error_that_says_what_to_check(checkout, env, tmp_path):
    with pytest.raises(SetupError, match="HTTPS_PROXY"):
        install(checkout, env, ivy(env, tmp_path / "nothing"))

    assert not (jars_folder(checkout / ".venv") / ".fetching").exists()


class _Proxy(BaseHTTPRequestHandler):
    """Serves a folder as any host's, to who has the password."""

    asked: set[str]
    folder: Path

    def do_GET(self) -> None:
        if self.headers["Proxy-Authorization"] != "Basic am86cDp3":  # jo:p:w
            self.send_response(407)
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        url = urlsplit(self.path)
        self.asked.add(url.netloc)
        file = self.folder / url.path.removeprefix("/maven/")
        body = file.read_bytes() if file.is_file() else b""
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Quiet."""


def test_jars_come_through_a_proxy_that_wants_a_password(checkout, env, repository):
    asked: set[str] = set()
    handler = type("Proxy", (_Proxy,), {"asked": asked, "folder": repository})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        proxy = f"http://jo:p%3Aw@127.0.0.1:{server.server_port}"
        options = java_options({"HTTP_PROXY": proxy})

        install(
            checkout,
            env,
            Ivy(ivy_jar, env, options=options, mirror="http://maven.example/maven/"),
        )
    finally:
        server.shutdown()
        server.server_close()

    assert wrong(checkout) == {"spark": [], "kafka": []}
    assert asked == {"maven.example"}


def test_mirror_and_settings_together_are_refused(env, tmp_path):
    with pytest.raises(SetupError, match="not both"):
        Ivy(ivy_jar, env, options=[], settings=tmp_path, mirror="http://x")
