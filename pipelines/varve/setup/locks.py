"""The lock files and the jars' sums, written anew from pyproject.toml and conf/ivy-*.xml."""

import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path

from varve.setup.console import SetupError, megabytes, say
from varve.setup.environment import BUILD_LOCK, DEV_LOCK, NOTEBOOK_LOCK, RUN_LOCK
from varve.setup.installer import BUILD_FROM_SOURCE, pip_settings, uv_settings
from varve.setup.jars import KINDS, Ivy, write_sums
from varve.setup.java import Java
from varve.setup.side_environment import SIDE_ENVIRONMENTS

_PLATFORM = "x86_64-manylinux_2_28"
"""glibc of the oldest supported distribution. The hashes are those of every platform's files."""

_SELECTIONS = {
    # The widest first: the others are parts of it, in the same versions.
    DEV_LOCK: ("pyproject.toml", "--group", "dev", "--group", "build"),
    RUN_LOCK: ("pyproject.toml", "--constraint", DEV_LOCK),
    NOTEBOOK_LOCK: ("pyproject.toml", "--group", "notebook", "--constraint", DEV_LOCK),
    BUILD_LOCK: ("--group", "pyproject.toml:build", "--constraint", DEV_LOCK),
    **{str(side.lock): (str(side.lock.with_suffix(".in")),) for side in SIDE_ENVIRONMENTS},
}


def write_locks(root: Path, python: Path, env: Mapping[str, str], *, upgrade: bool) -> None:
    """The lock files. Versions stay where they still fit, unless `upgrade`.

    `python` is that of an environment that is set up. Needs uv; blocks for the downloads whose
    size it notes in the files. Raises SetupError.
    """
    uv = shutil.which("uv", path=env.get("PATH"))
    if uv is None:
        raise SetupError("`make lock` needs uv on PATH (`pip install uv`).")
    settings = uv_settings(pip_settings(env), env) | dict(env)
    for lock, selection in _SELECTIONS.items():
        say(f"Resolving {lock} ...")
        command = [uv, "pip", "compile", "--quiet", *selection, "--output-file", lock]
        command += ["--python", str(python), "--python-version", "3.11"]
        command += ["--python-platform", _PLATFORM, "--generate-hashes", "--no-annotate"]
        command += ["--no-emit-index-url", "--no-emit-find-links"]
        command += ["--custom-compile-command", "make lock", *(["--upgrade"] if upgrade else [])]
        _run(command, root, settings)
        _note_download(root / lock, python, env)


def write_jar_sums(root: Path, java: Java, ivy: Ivy) -> None:
    """conf/jars.sha256, from what Ivy fetches now. Raises SetupError."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            say(f"Resolving the jars for {kind} ...")
            ivy.retrieve(java, root / "conf" / f"ivy-{kind}.xml", Path(folder), kind)
        write_sums(root, Path(folder))


def _note_download(lock: Path, python: Path, env: Mapping[str, str]) -> None:
    """Downloads everything, to say in the file how much it is."""
    with tempfile.TemporaryDirectory() as folder:
        command = [str(python), "-m", "pip", "download", "--quiet", "--dest", folder]
        command += ["--no-deps", "--require-hashes", "--requirement", str(lock)]
        command += ["--only-binary", ":all:"]
        if BUILD_FROM_SOURCE in lock.read_text():
            command += ["--no-binary", BUILD_FROM_SOURCE, "--no-build-isolation"]
        _run(command, lock.parent, env)
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    lock.write_text(f"# download: {megabytes(size)}\n{lock.read_text()}")


def _run(command: list[str], folder: Path, env: Mapping[str, str]) -> None:
    code = subprocess.run(
        command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, check=False
    ).returncode
    if code != 0:
        raise SetupError(f"`{Path(command[0]).name}` failed (its words are above).")
