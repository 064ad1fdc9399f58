"""docs/architecture.md names places that exist, so that a newcomer finds them."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "architecture.md").read_text()
# Packages that are announced as to come.
COMING: set[str] = set()


def test_every_path_it_names_exists():
    named = set(re.findall(r"`((?:varve|schemas|docs|conf|jobs|tests)/[\w./-]*)`", TEXT))

    assert len(named) > 40
    missing = {
        path
        for path in named - COMING
        if not (ROOT / (f"pipelines/{path}" if path.startswith("varve/") else path)).exists()
    }
    assert missing == set()


def test_every_package_has_a_place_in_the_table_of_layers():
    packages = {
        path.name
        for path in (ROOT / "pipelines" / "varve").iterdir()
        if (path / "__init__.py").exists()
    }

    assert {name for name in packages if f"`varve.{name}`" not in TEXT} == set()


def test_what_is_said_to_come_has_not_come():
    assert {path for path in COMING if (ROOT / "pipelines" / path).exists()} == set()
