import re
import tomllib

import pytest

from varve.model.resources import conf_dir
from varve.settings import Settings, load
from varve.settings.text import in_force, settings_there_are, template


@pytest.mark.parametrize("setting", list(settings_there_are()), ids=lambda s: s.key)
def test_every_setting_is_documented_with_its_unit_and_a_reason(setting):
    text = setting.field.description
    assert text, f"{setting.key} needs a docstring"
    assert text.endswith(".")
    unit = re.search(r"_(s|ms|mb|bytes|days)$", setting.key)
    if unit:
        words = {
            "s": "Seconds",
            "ms": "Milliseconds",
            "mb": "MiB",
            "bytes": "Bytes",
            "days": "Days",
        }
        assert words[unit[1]].lower() in text.lower(), f"{setting.key}: name the unit"
    if setting.field.annotation in (int, float) and setting.key != "demo.seed":
        assert len(re.findall(r"[.:] ", text)) >= 1, f"{setting.key}: give a reason"


def test_the_shipped_file_is_the_template_of_these_settings():
    shipped = (conf_dir() / "varve.toml").read_text()

    assert shipped == template(), "run: varve config --template > conf/varve.toml"


def test_the_template_sets_nothing_and_uncommented_sets_the_defaults(tmp_path):
    file = tmp_path / "varve.toml"
    file.write_text(re.sub(r"(?m)^#(?=\w+ = )", "", template()))

    assert all(_is_empty(section) for section in tomllib.loads(template()).values())
    settings, origins = load(file, {})
    assert settings == Settings()
    tables = {s.key for s in settings_there_are() if isinstance(Settings().at(s.key), dict)}
    assert set(origins) >= {s.key for s in settings_there_are()} - tables


def _is_empty(section):
    return isinstance(section, dict) and all(map(_is_empty, section.values()))


def test_what_is_in_force_says_where_it_came_from_and_hides_secrets():
    env = {"VARVE_KAFKA__PORT": "1234", "VARVE_KAFKA__OPTIONS__SSL_KEY_PASSWORD": "hush"}
    settings, origins = load(env=env, overrides={"home": "/data"})

    lines = {line.key: line for line in in_force(settings, origins)}

    assert lines["kafka.port"][1:] == ("1234", "VARVE_KAFKA__PORT")
    assert lines["home"][1:] == ('"/data"', "command line")
    assert lines["query.port"].origin == "default"
    assert lines["kafka.options"].value == '{ "ssl.key.password" = "***" }'
    assert "hush" not in str(lines)
