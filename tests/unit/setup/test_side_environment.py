import sys

from varve.setup.installer import Installer
from varve.setup.side_environment import AIRFLOW, bring_up


def test_an_environment_is_made_once_and_anew_when_its_lock_or_folder_changes(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # pip, not uv
    lock = tmp_path / AIRFLOW.lock
    lock.parent.mkdir()
    lock.write_text("")
    installed = []
    monkeypatch.setattr(Installer, "install", lambda self, file: installed.append(file))

    folder = bring_up(AIRFLOW, tmp_path, {})
    marker = folder / "kept"
    marker.touch()
    bring_up(AIRFLOW, tmp_path, {})
    assert marker.exists()
    assert installed == [lock]
    assert (folder / "bin" / "python").exists()
    assert folder != sys.prefix

    lock.write_text("# another version\n")
    bring_up(AIRFLOW, tmp_path, {})
    assert not marker.exists()
    assert installed == [lock, lock]


def test_one_that_was_cut_short_is_made_anew(tmp_path, monkeypatch):
    lock = tmp_path / AIRFLOW.lock
    lock.parent.mkdir()
    lock.write_text("")

    def fails(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Installer, "install", fails)
    try:
        bring_up(AIRFLOW, tmp_path, {})
    except KeyboardInterrupt:
        monkeypatch.setattr(Installer, "install", lambda *_: None)

    folder = bring_up(AIRFLOW, tmp_path, {})
    assert (folder / "varve-airflow.sha256").exists()
    assert not (folder / ".scratch").exists()
