import pytest

from varve.model.errors import NeedsOperator
from varve.settings import Settings, load


def test_the_environment_beats_the_file_and_the_command_line_beats_both(tmp_path):
    file = tmp_path / "varve.toml"
    file.write_text("[kafka]\nport = 1111\npartitions = 7\nheap_mb = 600\n")
    env = {"VARVE_KAFKA__PORT": "2222", "VARVE_KAFKA__PARTITIONS": "8"}

    settings, origins = load(file, env, {"kafka.port": 3333, "kafka.retention_s": None})

    assert (settings.kafka.port, settings.kafka.partitions, settings.kafka.heap_mb) == (
        3333,
        8,
        600,
    )
    assert origins == {
        "kafka.port": "command line",
        "kafka.partitions": "VARVE_KAFKA__PARTITIONS",
        "kafka.heap_mb": str(file),
    }


def test_the_file_may_be_named_by_the_environment(tmp_path):
    file = tmp_path / "varve.toml"
    file.write_text('home = "/data"\n')

    settings, _ = load(env={"VARVE_CONFIG": str(file)})

    assert str(settings.home) == "/data"


@pytest.mark.parametrize(
    ("text", "env", "words"),
    [
        ("[kafka]\nprot = 1", {}, ["varve.toml", "kafka.prot", "did you mean kafka.port?"]),
        ("", {"VARVE_QUERRY__PORT": "1"}, ["VARVE_QUERRY__PORT", "did you mean query?"]),
        ("", {"VARVE_KAFKA__PORT": "none"}, ["VARVE_KAFKA__PORT: kafka.port"]),
        ("[kafka]\nport = 0", {}, ["varve.toml: kafka.port", "greater than or equal to 1"]),
        ("[kafka\n", {}, ["not valid TOML"]),
        ("kafka = 1", {"VARVE_KAFKA__PORT": "1"}, ["VARVE_KAFKA__PORT", "a section"]),
        ("[retention]\nrollup_1m_days = 15", {}, ["rollup_1m_days must exceed samples_days"]),
        ('[ingest]\non_expired_offsets = "skip"', {}, ["ingest.on_expired_offsets"]),
    ],
)
def test_a_setting_that_cannot_be_is_named_with_its_origin(tmp_path, text, env, words):
    file = tmp_path / "varve.toml"
    file.write_text(text)

    with pytest.raises(NeedsOperator) as caught:
        load(file, env)

    for word in words:
        assert word in str(caught.value)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(NeedsOperator, match="none.toml"):
        load(tmp_path / "none.toml", {})


def test_a_secret_may_be_kept_elsewhere_and_is_never_shown(tmp_path, monkeypatch):
    (tmp_path / "key").write_text("hush-file\n")
    monkeypatch.setenv("HUSH", "hush-env")
    file = tmp_path / "varve.toml"
    file.write_text(
        f'[storage]\noptions = {{ A = "file:{tmp_path}/key", B = "env:HUSH", C = "hush-here" }}\n'
    )

    settings, _ = load(file, {})

    assert settings.storage_options() == {"A": "hush-file", "B": "hush-env", "C": "hush-here"}
    assert "hush" not in repr(settings)
    assert "hush" not in settings.model_dump_json()


@pytest.mark.parametrize("value", ["env:NOT_SET_ANYWHERE", "file:/not/there"])
def test_a_secret_that_is_not_there_is_an_error_that_says_where(value):
    with pytest.raises(NeedsOperator, match=value.partition(":")[2]):
        load(env={"VARVE_STORAGE__OPTIONS__KEY": value})


def test_kafkas_dots_are_underscores_in_the_environment():
    settings, _ = load(env={"VARVE_KAFKA__OPTIONS__SASL_JAAS_CONFIG": "x"})

    assert settings.kafka.client_options() == {"sasl.jaas.config": "x"}


def test_without_a_broker_of_ones_own_kafka_is_on_loopback():
    assert Settings().kafka.servers() == "127.0.0.1:9092"
    assert load(env={"VARVE_KAFKA__BOOTSTRAP_SERVERS": "a:1,b:2"})[0].kafka.servers() == "a:1,b:2"
