import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from varve.setup.airflow import LOCK as AIRFLOW_LOCK
from varve.setup.environment import (
    BUILD_LOCK,
    DEV_LOCK,
    NOTEBOOK_LOCK,
    RUN_LOCK,
    normalised,
    pinned,
)

ROOT = Path(__file__).resolve().parents[3]


def wanted(lock: str) -> list[str]:
    """What pyproject.toml asks of a lock file."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())
    groups = declared["dependency-groups"]
    core = declared["project"]["dependencies"]
    return {
        BUILD_LOCK: groups["build"],
        RUN_LOCK: core,
        DEV_LOCK: [*core, *groups["dev"], *groups["build"]],
        NOTEBOOK_LOCK: [*core, *groups["notebook"]],
    }[lock]


@pytest.mark.parametrize("lock", [BUILD_LOCK, RUN_LOCK, DEV_LOCK, NOTEBOOK_LOCK])
def test_the_lock_holds_what_pyproject_asks_for(lock):
    versions = pinned(ROOT / lock)

    for text in wanted(lock):
        requirement = Requirement(text)
        version = versions.get(normalised(requirement.name))
        assert version is not None, f"{text} is not in {lock}: run `make lock`"
        assert requirement.specifier.contains(version), f"{text} in {lock}: run `make lock`"


def test_the_lock_of_airflow_holds_what_is_asked_for():
    wants = (ROOT / AIRFLOW_LOCK).with_suffix(".in").read_text().splitlines()
    versions = pinned(ROOT / AIRFLOW_LOCK)

    for text in (line for line in wants if line and not line.startswith("#")):
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), text


def test_all_locks_agree_on_versions():
    everything = pinned(ROOT / DEV_LOCK)

    assert pinned(ROOT / RUN_LOCK).items() <= everything.items()
    assert pinned(ROOT / BUILD_LOCK).items() <= everything.items()


@pytest.mark.parametrize("lock", [BUILD_LOCK, RUN_LOCK, DEV_LOCK, NOTEBOOK_LOCK, AIRFLOW_LOCK])
def test_locks_name_no_host_and_hash_every_entry(lock):
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert text.count("==") <= text.count("--hash=sha256:")
    assert all(
        entry.rstrip().endswith("\\")
        for entry in text.splitlines()
        if "==" in entry and not entry.startswith(("#", " "))
    )
