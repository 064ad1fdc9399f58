import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from varve.setup.environment import (
    BUILD_LOCK,
    DEV_LOCK,
    NOTEBOOK_LOCK,
    RUN_LOCK,
    normalised,
    pinned,
)
from varve.setup.side_environment import SIDE_ENVIRONMENTS

ROOT = Path(__file__).resolve().parents[3]
LOCKS = (BUILD_LOCK, RUN_LOCK, DEV_LOCK, NOTEBOOK_LOCK)


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


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_holds_what_pyproject_asks_for(lock):
    versions = pinned(ROOT / lock)

    for text in wanted(lock):
        requirement = Requirement(text)
        version = versions.get(normalised(requirement.name))
        assert version is not None, f"{text} is not in {lock}: run `make lock`"
        assert requirement.specifier.contains(version), f"{text} in {lock}: run `make lock`"


@pytest.mark.parametrize("side", SIDE_ENVIRONMENTS, ids=lambda side: side.folder)
def test_the_lock_of_an_environment_beside_holds_what_is_asked_for(side):
    wants = (ROOT / side.lock).with_suffix(".in").read_text().splitlines()
    versions = pinned(ROOT / side.lock)

    for text in (line for line in wants if line and not line.startswith("#")):
        requirement = Requirement(text)
        assert requirement.specifier.contains(versions[normalised(requirement.name)]), text


def test_all_locks_agree_on_versions():
    everything = pinned(ROOT / DEV_LOCK)

    assert pinned(ROOT / RUN_LOCK).items() <= everything.items()
    assert pinned(ROOT / BUILD_LOCK).items() <= everything.items()


@pytest.mark.parametrize("lock", [*LOCKS, *(str(side.lock) for side in SIDE_ENVIRONMENTS)])
def test_locks_name_no_host_and_hash_every_entry(lock):
    text = (ROOT / lock).read_text()

    assert "://" not in text
    assert text.count("==") <= text.count("--hash=sha256:")
    assert all(
        entry.rstrip().endswith("\\")
        for entry in text.splitlines()
        if "==" in entry and not entry.startswith(("#", " "))
    )
