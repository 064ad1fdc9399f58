import base64
import hashlib
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import varve
from varve.setup.console import SetupError
from varve.setup.environment import (
    BUILD_LOCK,
    RUN_LOCK,
    Environment,
    broken_distributions,
    kernel_sources,
    pinned,
)
from varve.setup.installer import Installer

BACKEND = """
import zipfile

INFO = "varve-0.0.0.dist-info"
METADATA = "Metadata-Version: 2.1\\nName: varve\\nVersion: 0.0.0\\n"
WHEEL = "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n"


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    name = "varve-0.0.0-py3-none-any.whl"
    with zipfile.ZipFile(f"{wheel_directory}/{name}", "w") as wheel:
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", WHEEL)
        wheel.writestr(f"{INFO}/entry_points.txt", "[console_scripts]\\nvarve = stone:main\\n")
        wheel.writestr(f"{INFO}/RECORD", "")
    return name
"""


def make_wheel(folder: Path, name: str, version: str, code: str) -> str:
    """A wheel of one module; returns its lines for a lock file."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = [f"{path},{_record_hash(text)},{len(text)}\n" for path, text in files.items()]
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, text in files.items():
            wheel.writestr(member, text)
        wheel.writestr(f"{info}/RECORD", "".join([*record, f"{info}/RECORD,,\n"]))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def _record_hash(text: str) -> str:
    digest = hashlib.sha256(text.encode()).digest()
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@pytest.fixture
def wheels(tmp_path):
    folder = tmp_path / "wheels"
    folder.mkdir()
    return folder


@pytest.fixture
def checkout(tmp_path, wheels):
    """A checkout with a space in its path whose locks name packages of `wheels` alone."""
    root = tmp_path / "my checkout"
    root.mkdir()
    (root / "backend.py").write_text(BACKEND)
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (root / BUILD_LOCK).write_text("# none\n")
    code = "def main():\n    print('one')\n"
    (root / RUN_LOCK).write_text("# download: 1 kB\n" + make_wheel(wheels, "stone", "1.0", code))
    return root


@pytest.fixture
def installer(checkout, wheels):
    """pip with the user's settings: no index, only the folder."""
    environment = Environment(checkout)
    env = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    return Installer(environment.folder, environment.scratch, env | {"PIP_USER": "1"})


def bare(root: Path) -> Environment:
    """An environment of Python alone, made quickly."""
    environment = Environment(root)
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment.folder], check=True)
    return environment


def install_by_hand(environment: Environment, name: str, version: str, content: str) -> Path:
    info = environment.site_packages / f"{name}-{version}.dist-info"
    info.mkdir()
    (environment.site_packages / f"{name}.py").write_text(content)
    (info / "RECORD").write_text(f"{name}.py,,{len(content)}\n{info.name}/RECORD,,\n")
    return info


def test_from_nothing_to_a_working_command_and_on_to_a_changed_lock(checkout, wheels, installer):
    environment = Environment(checkout)
    locks = [BUILD_LOCK, RUN_LOCK]
    assert not environment.complete(locks)

    environment.bring_up(locks, installer)

    assert environment.complete(locks)
    command = environment.folder / "bin" / "varve"
    assert subprocess.check_output([command], text=True) == "one\n"

    code = "def main():\n    print('two')\n"
    (checkout / RUN_LOCK).write_text(make_wheel(wheels, "stone", "2.0", code))
    assert environment.missing(locks) == ["stone"]
    environment.bring_up(locks, installer)
    assert environment.complete(locks)
    assert subprocess.check_output([command], text=True) == "two\n"


def test_a_package_with_another_hash_is_not_installed(checkout, wheels, installer):
    make_wheel(wheels, "stone", "1.0", "def main():\n    print('forged')\n")
    environment = Environment(checkout)

    with pytest.raises(SetupError, match="could not install requirements.lock"):
        environment.bring_up([BUILD_LOCK, RUN_LOCK], installer)

    assert not (environment.site_packages / "stone.py").exists()


def test_a_moved_checkout_gets_its_environment_anew(checkout, installer, wheels):
    locks = [BUILD_LOCK, RUN_LOCK]
    Environment(checkout).bring_up(locks, installer)
    jar = checkout / ".venv" / "share" / "varve" / "jars" / "spark" / "a.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    moved = Environment(checkout.rename(checkout.parent / "elsewhere"))
    assert not moved.complete(locks)

    env = {"PATH": "/usr/bin:/bin", "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheels)}
    moved.bring_up(locks, Installer(moved.folder, moved.scratch, env))

    assert moved.complete(locks)
    assert (moved.folder / jar.relative_to(checkout / ".venv")).exists(), (
        "jars need no new download"
    )
    command = moved.folder / "bin" / "varve"
    assert subprocess.check_output([command], text=True) == "one\n"


def test_an_unusable_environment_of_the_users_own_is_not_touched(checkout, installer):
    folder = checkout / ".venv"
    (folder / "bin").mkdir(parents=True)
    (folder / "precious").write_text("mine")

    with pytest.raises(SetupError, match="move it away"):
        Environment(checkout).bring_up([BUILD_LOCK, RUN_LOCK], installer)

    assert (folder / "precious").read_text() == "mine"


def test_an_environment_of_the_users_own_that_works_is_completed(checkout, installer):
    environment = bare(checkout)
    (environment.folder / "precious").write_text("mine")

    environment.bring_up([BUILD_LOCK, RUN_LOCK], installer)

    assert environment.complete([BUILD_LOCK, RUN_LOCK])
    assert (environment.folder / "precious").read_text() == "mine"


def test_jars_brought_from_another_machine_may_be_there_before_the_environment(checkout, installer):
    jar = checkout / ".venv" / "share" / "varve" / "jars" / "spark" / "a.jar"
    jar.parent.mkdir(parents=True)
    jar.touch()
    environment = Environment(checkout)

    environment.bring_up([BUILD_LOCK, RUN_LOCK], installer)

    assert environment.complete([BUILD_LOCK, RUN_LOCK])
    assert jar.exists()


def test_what_an_interrupted_installation_left_incomplete_is_installed_again(checkout, installer):
    environment = bare(checkout)
    install_by_hand(environment, "stone", "1.0", "def main():\n    print('cut sh")
    (environment.site_packages / "stone.py").write_text("def main():\n")
    state = {"root": str(checkout), "under_way": True}
    (environment.folder / "varve-setup.json").write_text(json.dumps(state))

    environment.bring_up([BUILD_LOCK, RUN_LOCK], installer)

    command = environment.folder / "bin" / "varve"
    assert subprocess.check_output([command], text=True) == "one\n"


def test_distributions_are_broken_without_record_or_with_files_missing_or_cut(checkout):
    environment = bare(checkout)
    install_by_hand(environment, "whole", "1.0", "x = 1\n")
    cut = install_by_hand(environment, "cut", "1.0", "x = 1\n")
    (environment.site_packages / "cut.py").write_text("x =")
    gone = install_by_hand(environment, "gone", "1.0", "x = 1\n")
    (environment.site_packages / "gone.py").unlink()
    unfinished = environment.site_packages / "unfinished-1.0.dist-info"
    unfinished.mkdir()

    broken = set(broken_distributions(environment.site_packages))

    assert broken == {cut, gone, unfinished}


def test_pinned_reads_extras_and_normalises_names(tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        "# comment\nDelta-Spark==4.4.0 \\\n    --hash=sha256:00\nmoto[s3,server]==5.1.0 \\\n"
    )

    assert pinned(lock) == {"delta_spark": "4.4.0", "moto": "5.1.0"}


def test_every_module_with_kernels_is_a_reason_to_compile_them_again():
    package = Path(varve.__file__).parent
    compiled = {
        source for source in package.rglob("*.py") if "compiled import" in source.read_text()
    }

    assert len(compiled) > 10
    assert compiled <= set(kernel_sources(package))
