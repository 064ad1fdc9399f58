"""The virtual environment of a checkout: made, completed, repaired or found complete."""

import csv
import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Collection, Iterator
from pathlib import Path

from varve.setup.console import SetupError, say
from varve.setup.installer import Installer

BUILD_LOCK = "requirements-build.lock"
RUN_LOCK = "requirements.lock"
DEV_LOCK = "requirements-dev.lock"
NOTEBOOK_LOCK = "requirements-notebook.lock"

_STATE = "varve-setup.json"
_PROBE_TIMEOUT_S = 60

KERNEL_PARTS = ("query", "streams", "gateway")
"""Parts that varve.services.kernels compiles, at the same time."""

_IMPORTS_KERNELS = re.compile(
    r"varve\.model(\.compiled import| import compiled)|^import numba", re.MULTILINE
)


class Environment:
    """The folder .venv of the checkout `root`.

    What is installed is read from the folder itself. The state file beside it only says what
    cannot be seen there: for which checkout it was made, whether an installation was under way,
    and which pyproject.toml the `varve` command was made from.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / ".venv"
        self.scratch = self.folder / ".scratch"

    @property
    def python(self) -> Path:
        return self.folder / "bin" / "python"

    @property
    def site_packages(self) -> Path:
        return self.folder / "lib" / "python3.11" / "site-packages"

    def ivy(self) -> Path:
        """The Ivy inside pyspark. Raises SetupError if there is not exactly one."""
        jars = list((self.site_packages / "pyspark" / "jars").glob("ivy-*.jar"))
        if len(jars) != 1:
            raise SetupError(
                "pyspark in .venv has no Ivy inside: run `make clean` and `make setup` again."
            )
        return jars[0]

    def missing(self, locks: list[str]) -> list[str]:
        """Names in the locks that are not installed in exactly that version, sorted."""
        installed = _installed(self.site_packages)
        return sorted(
            name
            for lock in locks
            for name, version in pinned(self.root / lock).items()
            if installed.get(name) != version
        )

    def complete(self, locks: list[str]) -> bool:
        """Whether `bring_up` would find nothing to do. Takes tens of milliseconds."""
        return (
            self._fault() is None
            and not self._under_way()
            and not self.missing(locks)
            and self._checkout_installed()
        )

    def bring_up(self, locks: list[str], installer: Installer) -> None:
        """Make or complete the environment so that `complete(locks)`.

        Blocks for downloads. Raises SetupError. May be interrupted anywhere and run again.
        """
        self._make(installer)
        self.scratch.mkdir(exist_ok=True)
        if self._under_way():
            self._repair()
        self._write_state(root=str(self.root), under_way=True)
        for lock in locks:
            if missing := self.missing([lock]):
                count = f"{len(missing)} package{'s' * (len(missing) > 1)}"
                size = download_size(self.root / lock)
                say(f"Installing {count} of {lock} with {installer.name}{size} ...")
                # Only those: the installer looks at, and tells of, nothing that is there already.
                part = self.scratch / lock
                part.write_text(lock_part(self.root / lock, missing))
                installer.install(part)
        if not self._checkout_installed():
            say("Installing the varve command ...")
            installer.install_checkout(self.root)
            self._write_state(project=_digest(self.root))
        shutil.rmtree(self.scratch)
        self._write_state(under_way=False)

    def kernels_compiled(self) -> bool:
        """Whether `compile_kernels` has run on the sources as they are."""
        return self._state().get("kernels") == _kernels_digest(self.root)

    def compile_kernels(self) -> None:
        """Compiles what else the first start would: half a minute on two cores.

        Needs a complete environment. Raises SetupError if a compiler process fails.
        """
        say("Compiling the kernels ...")
        command = [str(self.python), "-m", "varve.services.kernels"]
        parts = [subprocess.Popen([*command, p], stdin=subprocess.DEVNULL) for p in KERNEL_PARTS]
        if sum(part.wait() != 0 for part in parts):  # each is waited for
            raise SetupError("a kernel could not be compiled; its words are above.")
        self._write_state(kernels=_kernels_digest(self.root))

    def _make(self, installer: Installer) -> None:
        fault = self._fault()
        if fault is None:
            return
        if (self.folder / "bin").exists():
            if "root" not in self._state():
                raise SetupError(
                    f"{self.folder} {fault} and `make setup` did not make it:"
                    " move it away and run again."
                )
            say(f"The environment in .venv {fault}: making it anew.")
            self._empty()
        say(f"Making the environment .venv with {installer.name} ...")
        self.folder.mkdir(exist_ok=True)
        self._write_state(root=str(self.root), under_way=True)
        self.scratch.mkdir(exist_ok=True)
        installer.create()

    def _empty(self) -> None:
        """Removes all but share/: its jars are judged by their sums, wherever they come from."""
        for path in self.folder.iterdir():
            if path.name == "share":
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def _fault(self) -> str | None:
        """Why the environment cannot be used, as the rest of a sentence on it; None if it can."""
        if not (self.folder / "bin").exists():
            return "is not there"
        if self._state().get("root", str(self.root)) != str(self.root):
            return "was made for another folder"
        program = "import sys; print(*sys.version_info[:2], sys.prefix)"
        try:
            answer = subprocess.run(
                [self.python, "-I", "-c", program],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_PROBE_TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return "has a Python that does not run"
        if answer.stdout.strip() != f"3 11 {self.folder}":
            return "is not one of Python 3.11 for this folder"
        return None

    def _repair(self) -> None:
        """Forget packages whose installation was cut short, so that they are installed again."""
        for info in broken_distributions(self.site_packages):
            say(f"Installing {info.name.removesuffix('.dist-info')} again: it is incomplete.")
            shutil.rmtree(info)
        for leftover in self.site_packages.glob("~*"):
            shutil.rmtree(leftover)

    def _checkout_installed(self) -> bool:
        command = self.folder / "bin" / "varve"
        return self._state().get("project") == _digest(self.root) and command.exists()

    def _under_way(self) -> bool:
        return self._state().get("under_way") is True

    def _state(self) -> dict[str, object]:
        try:
            state = json.loads((self.folder / _STATE).read_text())
        except FileNotFoundError:
            return {}
        except ValueError:  # the disk was full, say: treated as cut short
            return {"root": str(self.root), "under_way": True}
        return dict(state)

    def _write_state(self, **changes: object) -> None:
        """Writes the state with these changes, atomically."""
        path = self.folder / f"{_STATE}.new"
        path.write_text(json.dumps({**self._state(), **changes}, indent=1) + "\n")
        path.replace(self.folder / _STATE)


def _kernels_digest(root: Path) -> str:
    """A digest of the kernels' sources and of the packages that compile them."""
    digest = hashlib.sha256((root / RUN_LOCK).read_bytes())
    for source in kernel_sources(root / "pipelines" / "varve"):
        digest.update(source.read_bytes())
    return digest.hexdigest()


def kernel_sources(package: Path) -> list[Path]:
    """The modules of every folder in which a module has kernels, sorted.

    Whole folders, because compiled code also holds the constants of its neighbours.
    """
    folders = {
        source.parent
        for source in package.rglob("*.py")
        if _IMPORTS_KERNELS.search(source.read_text(encoding="utf-8"))
    }
    return sorted(source for folder in folders for source in folder.glob("*.py"))


def pinned(lock: Path) -> dict[str, str]:
    """Normalised name → version of every requirement in a lock file."""
    found = re.findall(r"^([A-Za-z0-9._-]+)(?:\[[^]]*\])?==(\S+)", lock.read_text(), re.MULTILINE)
    return {normalised(name): version for name, version in found}


def lock_part(lock: Path, names: Collection[str]) -> str:
    """The entries of `names` (normalised) of a lock file, as the text of one."""
    entries = re.split(r"^(?=[A-Za-z0-9])", lock.read_text(), flags=re.MULTILINE)
    return "".join(entry for entry in entries if normalised(re.split(r"[\[=]", entry)[0]) in names)


def download_size(lock: Path) -> str:
    """What `make lock` noted in the file, as the end of a sentence on installing it; or nothing."""
    noted = re.search(r"^# download: (.+)$", lock.read_text(), re.MULTILINE)
    return f", at most {noted[1]} to download" if noted else ""


def normalised(name: str) -> str:
    """A distribution's name as its folder spells it. Source: PEP 503, with underscores."""
    return re.sub(r"[-_.]+", "_", name).lower()


def broken_distributions(site_packages: Path) -> Iterator[Path]:
    """The .dist-info folders whose RECORD is missing or lists files missing or of another size."""
    for info in sorted(site_packages.glob("*.dist-info")):
        record = info / "RECORD"
        if not record.is_file() or not all(_as_recorded(site_packages, record)):
            yield info


def _as_recorded(site_packages: Path, record: Path) -> Iterator[bool]:
    with record.open(newline="", encoding="utf-8") as lines:
        for path, _, size in csv.reader(lines):
            file = site_packages / path
            if not size:  # compiled files, and RECORD itself
                continue
            yield file.is_file() and file.stat().st_size == int(size)


def _installed(site_packages: Path) -> dict[str, str]:
    """Normalised name → version, of what was installed to the end: it has a RECORD."""
    found = {}
    for info in site_packages.glob("*.dist-info"):
        name, _, version = info.name.removesuffix(".dist-info").rpartition("-")
        if (info / "RECORD").is_file():
            found[normalised(name)] = version
    return found


def _digest(root: Path) -> str:
    """A digest of what the installed `varve` command depends on."""
    return hashlib.sha256((root / "pyproject.toml").read_bytes()).hexdigest()
