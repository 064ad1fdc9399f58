"""pip, or uv if it is there: both with the user's own settings for pip."""

import ast
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from varve.setup.console import SetupError

BUILD_FROM_SOURCE = "pyspark"
"""Comes as source only. All else must be a wheel: no compiler is wanted here."""

_UV_NAMES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "trusted-host": "UV_INSECURE_HOST",
    "timeout": "UV_HTTP_TIMEOUT",
    "default-timeout": "UV_HTTP_TIMEOUT",
    "proxy": "ALL_PROXY",
}

_COMMA_SEPARATED = {"UV_FIND_LINKS"}


class Installer:
    """Installs into one virtual environment. `scratch` holds what builds need meanwhile.

    Every method blocks, shows the tool's own progress and raises SetupError if it fails.
    """

    def __init__(self, venv: Path, scratch: Path, env: Mapping[str, str]) -> None:
        self._python = venv / "bin" / "python"
        self._venv = venv
        self._uv = shutil.which("uv", path=env.get("PATH"))
        self._env = _clean(env) | {"TMPDIR": str(scratch)}
        if self._uv:
            self._env = uv_settings(pip_settings(env), self._env) | self._env

    @property
    def name(self) -> str:
        return "uv" if self._uv else "pip"

    def create(self) -> None:
        """The virtual environment, of the Python that runs this or that its own was made of."""
        python = sys.executable
        if sys.prefix != sys.base_prefix:
            python = str(Path(python).resolve())
        if self._uv:
            command = [self._uv, "venv", "--quiet", "--allow-existing", "--python", python]
            self._run([*command, str(self._venv)], "uv could not create the environment")
            return
        try:
            import ensurepip  # noqa: F401, PLC0415 - Debian ships Python without it
            import venv  # noqa: F401, PLC0415
        except ImportError:
            raise SetupError(
                f"{python} cannot make virtual environments: install its venv package"
                " (Debian, Ubuntu: python3.11-venv), or put uv on PATH."
            ) from None
        self._run(
            [python, "-m", "venv", str(self._venv)],
            "python could not create the environment",
        )

    def install(self, lock: Path) -> None:
        """Everything in `lock`, by its hashes, and nothing else.

        What must be built from source is built with what is installed.
        """
        self._ensure_pip()
        command = [*self._command(), "--require-hashes", "--no-deps", "--only-binary", ":all:"]
        if BUILD_FROM_SOURCE in lock.read_text():
            command += ["--no-binary", BUILD_FROM_SOURCE, "--no-build-isolation"]
        self._run([*command, "-r", str(lock)], f"{self.name} could not install {lock.name}")

    def install_checkout(self, root: Path) -> None:
        """The `varve` package and command, from where they lie. Needs the build lock installed."""
        self._ensure_pip()
        self._run(
            [
                *self._command(),
                *("--quiet", "--no-deps", "--no-build-isolation", "--editable", str(root)),
            ],
            f"{self.name} could not install the checkout itself",
        )

    def install_into(self, target: Path, lock: Path, wheel: Path) -> None:
        """Modules of `lock` and of the wheel file `wheel` into the folder `target`; no commands."""
        command = [*self._command(), "--quiet", "--no-deps", "--target", str(target)]
        self._run(
            [*command, "--require-hashes", "--only-binary", ":all:", "-r", str(lock)],
            f"{self.name} could not install {lock.name}",
        )
        scripts = target / "bin"  # they name this machine's Python
        shutil.rmtree(scripts, ignore_errors=True)
        self._run([*command, str(wheel)], f"{self.name} could not install {wheel.name}")
        shutil.rmtree(scripts)

    def _command(self) -> list[str]:
        if self._uv:
            return [self._uv, "pip", "install", "--python", str(self._python)]
        return [str(self._python), "-m", "pip", "install", "--no-input"]

    def _ensure_pip(self) -> None:
        """An environment made by uv has no pip."""
        if self._uv or list(self._venv.glob("lib/python*/site-packages/pip/__main__.py")):
            return
        self._run(
            [str(self._python), "-m", "ensurepip"],
            "pip is missing from the environment and ensurepip could not bring it",
        )

    def _run(self, command: list[str], complaint: str) -> None:
        code = subprocess.run(
            command, env=self._env, stdin=subprocess.DEVNULL, check=False
        ).returncode
        if code != 0:
            raise SetupError(
                f"{complaint} (its words are above): check the network, HTTPS_PROXY and"
                " `pip config list` (docs/deploy.md), then run again; it goes on where it stopped."
            )


def pip_settings(env: Mapping[str, str]) -> dict[str, str]:
    """The settings that `pip config list` tells, by option; later sources beat earlier ones.

    PIP_ variables come last. Without a pip to ask only those are known.
    """
    answer = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        env=dict(env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    settings = {}
    for line in answer.stdout.splitlines() if answer.returncode == 0 else ():
        key, _, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if section in {"global", "install"}:
            settings[option] = str(ast.literal_eval(value))
    for name, value in env.items():
        if name.startswith("PIP_"):
            settings[name.removeprefix("PIP_").lower().replace("_", "-")] = value
    return settings


def uv_settings(pip: Mapping[str, str], env: Mapping[str, str]) -> dict[str, str]:
    """uv reads none of pip's settings: the same in uv's variables, but for those already set."""
    settings = {}
    for option, value in pip.items():
        name = _UV_NAMES.get(option)
        if name and value and name not in env:
            separator = "," if name in _COMMA_SEPARATED else " "
            settings[name] = separator.join(value.split())
    return settings


def _clean(env: Mapping[str, str]) -> dict[str, str]:
    """The environment without what makes pip install, or Python import, elsewhere."""
    misleading = {
        *("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "CONDA_PREFIX", "UV_PROJECT_ENVIRONMENT"),
        *("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON"),
    }
    kept = {name: value for name, value in env.items() if name not in misleading}
    return kept | {"PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
