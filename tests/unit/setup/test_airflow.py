import sys

from varve.setup import airflow
from varve.setup.airflow import LOCK, install_airflow


def test_an_environment_is_made_once_and_anew_when_its_lock_or_folder_changes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # pip, not uv
    lock = tmp_path / LOCK
    lock.parent.mkdir()
    lock.write_text("")
    installed = []
    monkeypatch.setattr(airflow.Installer, "install", lambda self, file: installed.append(file))

    folder = install_airflow(tmp_path, {})
    marker = folder / "kept"
    marker.touch()
    install_airflow(tmp_path, {})
    assert marker.exists()
    assert installed == [lock]
    assert (folder / "bin" / "python").exists()
    assert folder != sys.prefix

    lock.write_text("# another version\n")
    install_airflow(tmp_path, {})
    assert not marker.exists()
    assert installed == [lock, lock]


def test_one_that_was_cut_short_is_made_anew(tmp_path, monkeypatch):
    lock = tmp_path / LOCK
    lock.parent.mkdir()
    lock.write_text("")

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(airflow.Installer, "install", fails)
    try:
        install_airflow(tmp_path, {})
    except KeyboardInterrupt:
        monkeypatch.setattr(airflow.Installer, "install", lambda *_: None)

    folder = install_airflow(tmp_path, {})
    assert (folder / "varve-airflow.sha256").exists()
    assert not (folder / ".scratch").exists()
