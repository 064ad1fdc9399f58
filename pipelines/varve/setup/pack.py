"""What a cluster gets: the wheel, an environment for executors, the jobs and Spark's jars."""

import gzip
import hashlib
import json
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from pathlib import Path

from varve.setup.console import SetupError, megabytes, say
from varve.setup.environment import RUN_LOCK, Environment, lock_part, pinned
from varve.setup.installer import Installer
from varve.setup.jars import jars_folder

_NOT_PACKED = frozenset({"pyspark", "py4j"})
"""Each Spark has its own, of its own version."""

_LEFT_OUT = frozenset({
    *("__pycache__", "tests", "test", "idlelib", "tkinter", "turtledemo", "lib2to3"),
    *("ensurepip", "site-packages", "dist-packages", "EXTERNALLY-MANAGED", "sitecustomize.py"),
})  # fmt: skip
"""Names of the interpreter's library, and of packages, that no job needs."""

_SITE = '''"""Packages lie beside the library, whatever the distribution's Python thinks of that."""

import site
import sys

site.addsitedir(f"{sys.prefix}/lib/python3.11/site-packages")
'''

_PROBE = """
import json, sys, sysconfig
shared = sysconfig.get_config_var("Py_ENABLE_SHARED")
print(json.dumps({
    "executable": sys._base_executable,
    "library": sysconfig.get_path("stdlib"),
    "platlibdir": sys.platlibdir,
    "shared": sysconfig.get_config_var("INSTSONAME") if shared else "",
    "shared_folder": sysconfig.get_config_var("LIBDIR"),
    "platform": sysconfig.get_platform(),
}))
"""

_LAUNCHER = """#!/bin/sh
# The interpreter looks for its library where it was built; here it lies beside it.
here=$(dirname "$(readlink -f "$0")")
LD_LIBRARY_PATH="$here/../lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export LD_LIBRARY_PATH
exec "$here/python3.11" "$@"
"""

_CHECK = """
import sys
import numba, pyarrow, deltalake
import varve
from varve.model import resources
assert varve.__file__.startswith(sys.prefix), varve.__file__
resources.schemas_dir(), resources.conf_dir()
foreign = {line.split()[-1] for line in open("/proc/self/maps") if "libpython" in line}
foreign = {path for path in foreign if not path.startswith(sys.prefix)}
assert not foreign, f"the interpreter loads {foreign}, which other machines lack"
"""

_COMPRESSION = 4
"""The level of gzip: 6 takes twice as long for 3 % less."""


def pack(environment: Environment, env: Mapping[str, str], dist: Path) -> None:
    """Fill the folder `dist` anew. `environment` must be complete.

    dist/varve-V-py3-none-any.whl; dist/varve-env-V-PLATFORM.tar.gz, with bin/python at its top;
    dist/jobs/*.py; dist/jars/*.jar; dist/SHA256SUMS of all of them. The same checkout and
    packages give the same archive, byte for byte. Raises SetupError.
    """
    if dist.exists():
        shutil.rmtree(dist)
    dist.mkdir()
    say("Building the wheel ...")
    command = [str(environment.python), "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
    _run(command, environment.root, env, "the wheel could not be built")
    wheel = next(dist.glob("*.whl"))
    version = wheel.name.split("-")[1]
    facts = json.loads(
        subprocess.run(
            [environment.python, "-I", "-c", _PROBE], check=True, capture_output=True, text=True
        ).stdout
    )
    with tempfile.TemporaryDirectory(dir=dist, prefix=".") as folder:
        stage = Path(folder) / "env"
        _stage(stage, wheel, facts, environment, env)
        say("Checking the executor environment ...")
        _run([str(stage / "bin" / "python"), "-I", "-c", _CHECK], dist, env, "it does not work")
        say("Compressing it ...")
        _archive(stage, dist / f"varve-env-{version}-{facts['platform']}.tar.gz")
    jobs = environment.root / "jobs"
    shutil.copytree(jobs, dist / "jobs", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(jars_folder(environment.folder) / "spark", dist / "jars")
    _write_sums(dist)


def _stage(
    stage: Path,
    wheel: Path,
    facts: Mapping[str, str],
    environment: Environment,
    env: Mapping[str, str],
) -> None:
    """The environment as a folder: an interpreter of its own, the run-time lock, the wheel."""
    library = stage / "lib" / "python3.11"
    (stage / "bin").mkdir(parents=True)
    say("Copying the interpreter ...")
    shutil.copy2(Path(facts["executable"]).resolve(), stage / "bin" / "python3.11")
    ignored = shutil.ignore_patterns(*_LEFT_OUT, "config-3.11*")
    shutil.copytree(facts["library"], library, ignore=ignored)
    if facts["platlibdir"] != "lib":  # Fedora's and its kin's looks for itself in lib64
        (stage / facts["platlibdir"]).symlink_to("lib")
    python = stage / "bin" / "python"
    if facts["shared"]:
        shutil.copy2(Path(facts["shared_folder"]) / facts["shared"], stage / "lib")
        python.write_text(_LAUNCHER)
        python.chmod(0o755)
    else:
        python.symlink_to("python3.11")
    (library / "sitecustomize.py").write_text(_SITE)
    lock = environment.root / RUN_LOCK
    packed = pinned(lock).keys() - _NOT_PACKED
    say(f"Installing {len(packed)} packages ...")
    part = stage / RUN_LOCK
    part.write_text(lock_part(lock, packed))
    installer = Installer(environment.folder, stage.parent, env)
    installer.install_into(library / "site-packages", part, wheel)
    part.unlink()
    for path in sorted((library / "site-packages").rglob("*")):
        if path.is_dir() and path.name in _LEFT_OUT:
            shutil.rmtree(path)


def _archive(stage: Path, path: Path) -> None:
    """A tar.gz of what is in `stage`, sorted and without times or owners."""
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _COMPRESSION, raw, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w") as archive,
    ):
        for file in sorted(stage.rglob("*")):
            entry = archive.gettarinfo(file, str(file.relative_to(stage)))
            entry.uid = entry.gid = entry.mtime = 0
            entry.uname = entry.gname = ""
            if entry.isreg():
                with file.open("rb") as content:
                    archive.addfile(entry, content)
            else:
                archive.addfile(entry)
    say(f"  {path.name} ({megabytes(path.stat().st_size)})")


def _write_sums(dist: Path) -> None:
    files = sorted(path for path in dist.rglob("*") if path.is_file())
    lines = []
    for path in files:
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        lines.append(f"{digest}  {path.relative_to(dist)}\n")
    (dist / "SHA256SUMS").write_text("".join(lines))


def _run(command: list[str], folder: Path, env: Mapping[str, str], complaint: str) -> None:
    code = subprocess.run(
        command, cwd=folder, env=dict(env), stdin=subprocess.DEVNULL, check=False
    ).returncode
    if code != 0:
        raise SetupError(f"`make dist` stopped: {complaint} (see above).")
