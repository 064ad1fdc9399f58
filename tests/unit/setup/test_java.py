import shutil
from pathlib import Path

import pytest

from varve.setup.console import SetupError
from varve.setup.java import find_java


def fake_java(home: Path, specification: str) -> Path:
    """A program that answers as the java launcher of that version does."""
    executable = home / "bin" / "java"
    executable.parent.mkdir(parents=True)
    executable.write_text(
        "#!/bin/sh\n"
        f'echo "    java.home = {home}" >&2\n'
        f'echo "    java.specification.version = {specification}" >&2\n'
    )
    executable.chmod(0o755)
    return executable


@pytest.fixture
def nowhere(tmp_path):
    return tmp_path / "no-jvms-here"


def test_java_home_comes_before_path(tmp_path, nowhere):
    fake_java(tmp_path / "a b" / "jdk-21", "21")
    fake_java(tmp_path / "jdk-17", "17")
    env = {
        "JAVA_HOME": str(tmp_path / "a b" / "jdk-21"),
        "PATH": f"{tmp_path / 'jdk-17' / 'bin'}:/bin",
    }

    java = find_java(env, system=nowhere)

    assert java.major == 21
    assert java.executable == tmp_path / "a b" / "jdk-21" / "bin" / "java"


def test_java_on_path_serves_without_java_home(tmp_path, nowhere):
    fake_java(tmp_path / "jdk-17", "17")

    java = find_java({"PATH": f"{tmp_path / 'jdk-17' / 'bin'}:/bin"}, system=nowhere)

    assert java.home == tmp_path / "jdk-17"


def test_an_unsupported_java_on_path_gives_way_to_one_of_the_system(tmp_path):
    fake_java(tmp_path / "jdk-11", "11")
    fake_java(tmp_path / "jvm" / "java-21", "21")

    java = find_java({"PATH": f"{tmp_path / 'jdk-11' / 'bin'}:/bin"}, system=tmp_path / "jvm")

    assert java.major == 21


def test_without_a_supported_java_one_line_names_what_was_found_and_what_to_do(tmp_path, nowhere):
    fake_java(tmp_path / "jdk-8", "1.8")

    with pytest.raises(SetupError) as error:
        find_java(
            {"JAVA_HOME": "/does/not/exist", "PATH": f"{tmp_path / 'jdk-8' / 'bin'}:/bin"},
            system=nowhere,
        )

    text = str(error.value)
    assert "/does/not/exist/bin/java does not run" in text
    assert "is Java 8" in text
    assert "openjdk-17-jre-headless" in text
    assert "\n" not in text


@pytest.mark.skipif(shutil.which("java") is None, reason="no Java on this machine")
def test_the_java_of_this_machine_is_understood():
    java = find_java({"PATH": "/usr/local/bin:/usr/bin:/bin"})

    assert java.executable.is_file()
