from pathlib import Path

import pytest

from varve.kafka.client_options import client_options
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


KUBERNETES = {
    "VARVE_SERVICE_HOST": "10.0.0.1",
    "VARVE_SERVICE_PORT": "9690",
    "VARVE_SERVICE_PORT_HTTP": "9690",
    "VARVE_PORT": "tcp://10.0.0.1:9690",
    "VARVE_PORT_9690_TCP": "tcp://10.0.0.1:9690",
    "VARVE_PORT_9690_TCP_PROTO": "tcp",
    "VARVE_PORT_9690_TCP_PORT": "9690",
    "VARVE_PORT_9690_TCP_ADDR": "10.0.0.1",
    "VARVE_QUERY_SERVICE_HOST": "10.0.0.2",
    "VARVE_QUERY_PORT": "tcp://10.0.0.2:9690",
    "VARVE_KAFKA_PORT_9092_UDP_ADDR": "10.0.0.3",
}


def test_what_kubernetes_says_of_services_is_no_setting_and_no_reason_for_a_word(caplog):
    settings, origins = load(env=KUBERNETES)

    assert (settings, origins) == (Settings(), {})
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("name", "value", "hint"),
    [
        ("VARVE_KAFKA_PORT", "9192", ": did you mean VARVE_KAFKA__PORT?"),
        ("VARVE_PORT", "9690", ""),
        ("VARVE_CONFG", "/etc/varve.toml", ": did you mean VARVE_CONFIG?"),
        ("VARVE_VERSION", "1.2", ""),
    ],
)
def test_a_variable_that_is_no_setting_is_a_warning_at_most(caplog, name, value, hint):
    settings, _ = load(env={name: value})

    assert settings == Settings()
    assert caplog.messages == [f"the variable {name} is no setting and is ignored{hint}"]


def test_a_byte_order_mark_before_the_file_is_skipped(tmp_path):
    file = tmp_path / "varve.toml"
    file.write_bytes("\N{ZERO WIDTH NO-BREAK SPACE}home = 'Köln'\r\n".encode())

    assert str(load(file, {})[0].home) == "Köln"


@pytest.mark.parametrize(
    ("encoding", "words"),
    [
        ("latin-1", r"varve.toml is not in UTF-8 \(line 2 has the byte 0xF6\): save it as UTF-8$"),
        ("utf-16", r"varve.toml is in UTF-16, not in UTF-8: save it as UTF-8$"),
        ("utf-16-le", r"varve.toml is in UTF-16, not in UTF-8: save it as UTF-8$"),
    ],
)
def test_a_file_in_another_encoding_is_one_line_that_says_what_to_do(tmp_path, encoding, words):
    file = tmp_path / "varve.toml"
    file.write_bytes("# settings\nhome = 'Köln'\n".encode(encoding))

    with pytest.raises(NeedsOperator, match=words) as caught:
        load(file, {})

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[kafka]\nport = true", "kafka.port: should be a whole number, not true"),
        ('[kafka]\nport = "39092"', 'kafka.port: should be a whole number, not "39092"'),
        ("[kafka]\nport = 9092.0", "kafka.port: should be a whole number, not 9092.0"),
        ("[kafka]\nport = 1979-05-27", "kafka.port: should be a whole number, not 1979-05-27"),
        ("[kafka]\nretention_s = 9007199254740993", "kafka.retention_s: should be at most"),
        ("[ingest]\ntrigger_s = false", "ingest.trigger_s: should be a number, not false"),
        ('[ingest]\ntrigger_s = "2"', 'ingest.trigger_s: should be a number, not "2"'),
        ("[ingest]\ntrigger_s = inf", "ingest.trigger_s: input should be a finite number"),
        ("[ingest]\ntrigger_s = nan", "ingest.trigger_s: input should be a finite number"),
        ("[ingest]\ntrigger_s = 1e300", "ingest.trigger_s: should be at most"),
        ("[collector]\nenabled = 1", "collector.enabled: should be true or false, not 1"),
        ('[collector]\nenabled = "no"', 'collector.enabled: should be true or false, not "no"'),
        ('[spark]\nmaster = "local[0]"', "spark.master: local[0] is no Spark master"),
        (
            '[spark]\nmaster = "local[999999999]"',
            "spark.master: local[999999999] is no Spark master",
        ),
        ("query = 5", r"query is a section of settings, not a value: write [query]"),
        ("[[query]]\nport = 1", r"query is a section of settings, not a value: write [query]"),
        ('[spark]\nmaster = "local[two]"', "spark.master: local[two] is no Spark master"),
        ('[spark]\nmaster = ""', "spark.master: an empty text is no Spark master"),
        ('[query]\nhost = ""', "query.host: string should have at least 1 character"),
        ('home = ""', "home: is empty: name a folder"),
        ("home = 1", "home: "),
    ],
)
def test_a_value_of_another_kind_is_refused_with_the_settings_name(tmp_path, text, words):
    file = tmp_path / "varve.toml"
    file.write_text(text)

    with pytest.raises(NeedsOperator) as caught:
        load(file, {})

    assert str(caught.value).startswith(f"{file}: {words}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("VARVE_INGEST__TRIGGER_S", "inf"),
        ("VARVE_INGEST__TRIGGER_S", "1e999"),
        ("VARVE_KAFKA__PORT", "9092.5"),
        ("VARVE_KAFKA__PORT", "true"),
        ("VARVE_COLLECTOR__ENABLED", "maybe"),
        ("VARVE_SPARK__MASTER", "local[0]"),
        ("VARVE_HOME", ""),
        ("VARVE_HOME", " "),
    ],
)
def test_a_variable_that_cannot_be_is_refused_by_name(name, value):
    with pytest.raises(NeedsOperator, match=f"^{name}: "):
        load(env={name: value})


def test_a_variables_text_becomes_its_settings_type():
    env = {
        "VARVE_KAFKA__PORT": "39092",
        "VARVE_INGEST__TRIGGER_S": "0.5",
        "VARVE_COLLECTOR__ENABLED": "False",
        "VARVE_HOME": "/data",
        "VARVE_LOGS__LEVEL": "ERROR",
        "VARVE_SPARK__MASTER": "local[*]",
    }

    settings, origins = load(env=env)

    assert [settings.at(key) for key in sorted(origins)] == [
        *(False, Path("/data"), 0.5, 39092, "ERROR", "local[*]")
    ]


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


def test_a_file_nested_too_deeply_is_one_line(tmp_path):
    file = tmp_path / "varve.toml"
    file.write_text("a = " + "[" * 10_000)

    with pytest.raises(NeedsOperator, match="varve.toml is not valid TOML: .+$"):
        load(file, {})


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_secret_in_another_encoding_is_one_line_that_shows_nothing_of_it(tmp_path, encoding):
    (tmp_path / "key").write_bytes("geheimes-Wörtchen".encode(encoding))
    file = tmp_path / "varve.toml"
    file.write_text(f'[storage]\noptions = {{ A = "file:{tmp_path}/key" }}\n')

    with pytest.raises(NeedsOperator, match="is not in UTF-8: save it as UTF-8$") as caught:
        load(file, {})

    said = str(caught.value)
    assert "\n" not in said
    assert "key" in said
    assert "0x" not in said
    assert "geheim" not in said


def test_a_secret_is_read_without_a_byte_order_mark(tmp_path):
    (tmp_path / "key").write_bytes("Wörtchen\r\n".encode("utf-8-sig"))
    file = tmp_path / "varve.toml"
    file.write_text(f'[storage]\noptions = {{ A = "file:{tmp_path}/key" }}\n')

    assert load(file, {})[0].storage_options()["A"] == "Wörtchen"


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


LOGIN = {
    "VARVE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
    "VARVE_KAFKA__SASL_MECHANISM": "SCRAM-SHA-512",
    "VARVE_KAFKA__USERNAME": "varve",
    "VARVE_KAFKA__PASSWORD": 'hush "\\x',
    "VARVE_KAFKA__CA_FILE": "/etc/ca.pem",
}


def test_a_login_becomes_kafkas_options():
    settings, _ = load(env=LOGIN | {"VARVE_KAFKA__OPTIONS__CLIENT_ID": "me"})

    assert settings.kafka.client_options() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.jaas.config": "org.apache.kafka.common.security.scram.ScramLoginModule required"
        ' username="varve" password="hush \\"\\\\x";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/etc/ca.pem",
        "client.id": "me",
    }
    assert client_options(settings.kafka.client_options())["sasl_plain_password"] == 'hush "\\x'
    assert "hush" not in repr(settings)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"PASSWORD": ""}, "password is missing"),
        ({"USERNAME": ""}, "username is missing"),
        ({"SASL_MECHANISM": ""}, "sasl_mechanism is missing"),
        ({"SASL_MECHANISM": "GSSAPI"}, "kafka.sasl_mechanism"),
        ({"SECURITY_PROTOCOL": "SSL"}, "sasl_mechanism is of no use without security_protocol"),
        ({"SECURITY_PROTOCOL": "SASL_PLAINTEXT"}, "ca_file is of no use"),
        ({"SECURITY_PROTOCOL": "TLS"}, "kafka.security_protocol"),
        ({"OPTIONS__SASL_JAAS_CONFIG": "x"}, "options has sasl.jaas.config"),
    ],
)
def test_a_login_that_cannot_work_is_refused_without_telling_it(changes, words):
    env = LOGIN | {f"VARVE_KAFKA__{name}": value for name, value in changes.items()}

    with pytest.raises(NeedsOperator) as caught:
        load(env=env)

    assert words in str(caught.value)
    assert "hush" not in str(caught.value)


def test_a_login_of_another_kind_may_be_given_by_kafkas_own_names():
    env = {
        "VARVE_KAFKA__SECURITY_PROTOCOL": "SASL_SSL",
        "VARVE_KAFKA__OPTIONS__SASL_MECHANISM": "PLAIN",
        "VARVE_KAFKA__OPTIONS__SASL_JAAS_CONFIG": "x",
    }

    assert load(env=env)[0].kafka.client_options() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": "x",
    }
