from varve.setup.installer import pip_settings, uv_settings


def test_pips_variables_and_its_file_are_both_known_and_variables_win(tmp_path):
    config = tmp_path / "pip.conf"
    config.write_text("[global]\nindex-url = https://file.example/simple\ntimeout = 7\n")
    env = {"PIP_CONFIG_FILE": str(config), "PIP_INDEX_URL": "https://variable.example/simple"}

    settings = pip_settings(env)

    assert settings["index-url"] == "https://variable.example/simple"
    assert settings["timeout"] == "7"


def test_uv_gets_pips_settings_in_its_own_variables():
    pip = {
        "index-url": "https://mirror.example/simple",
        "extra-index-url": "https://a.example\nhttps://b.example",
        "find-links": "/wheels /more",
        "cert": "/ca.pem",
        "default-timeout": "180",
        "quiet": "1",
    }

    assert uv_settings(pip, {}) == {
        "UV_DEFAULT_INDEX": "https://mirror.example/simple",
        "UV_INDEX": "https://a.example https://b.example",
        "UV_FIND_LINKS": "/wheels,/more",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_HTTP_TIMEOUT": "180",
    }


def test_uvs_own_variables_are_left_alone():
    assert uv_settings({"index-url": "https://pip.example"}, {"UV_DEFAULT_INDEX": "x"}) == {}
