import pytest

from varve.settings import load


@pytest.mark.parametrize("section", ["GATEWAY", "QUERY", "SCRAPE"])
@pytest.mark.parametrize("kind", ["TOKENS", "USERS"])
def test_who_may_come_is_a_secret_of_every_service(section, kind):
    settings, _ = load(env={f"VARVE_{section}__{kind}__TEAM": "hush-hush"})

    assert "hush-hush" in settings.secrets()


def test_a_secret_setting_is_one_whatever_its_name():
    url = "redis://steps:hush-hush@127.0.0.1:6379/0"
    settings, _ = load(env={"VARVE_QUERY__TOKEN": "of-a-client", "VARVE_QUERY__REDIS_URL": url})

    assert {"of-a-client", url, "hush-hush"} <= set(settings.secrets())


@pytest.mark.parametrize("options", ["OPTIONS", "WARM_OPTIONS", "COLD_OPTIONS", "BACKUP_OPTIONS"])
def test_of_options_those_are_secrets_whose_names_say_so(options):
    given = {"AWS_SECRET_ACCESS_KEY": "hush-hush", "AWS_REGION": "eu-central-1"}
    env = {f"VARVE_STORAGE__{options}__{name}": value for name, value in given.items()}

    secrets = load(env=env)[0].secrets()

    assert "hush-hush" in secrets
    assert "eu-central-1" not in secrets
