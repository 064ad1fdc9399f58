import sys

import pytest

from varve.model import resources


def test_a_checkout_has_its_schemas_and_settings_at_its_top():
    assert (resources.schemas_dir() / "tables").is_dir()
    assert (resources.conf_dir() / "jars.sha256").is_file()


def test_an_installed_package_has_them_inside(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "varve")
    packaged = tmp_path / "varve" / "_data" / "schemas"
    packaged.mkdir(parents=True)

    assert resources.schemas_dir() == packaged


def test_an_incomplete_installation_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(resources, "_PACKAGE", tmp_path / "a" / "b" / "varve")

    with pytest.raises(FileNotFoundError, match="install Varve again"):
        resources.conf_dir()


def test_jars_belong_to_the_environment_and_their_absence_names_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(FileNotFoundError, match="make setup"):
        resources.jars_dir("spark")

    folder = tmp_path / "share" / "varve" / "jars" / "spark"
    folder.mkdir(parents=True)
    assert resources.jars_dir("spark") == folder
