"""From a producer to the tables through a broker as companies run it: TLS, logins, few rights."""

import json
import os
import subprocess
import sys
import time
import uuid

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ACLOperation

from tests.integration.estate import PASSWORD, READER, WRITER, Estate
from varve.cli.main import main
from varve.client import Producer
from varve.kafka.client_options import Cluster
from varve.kafka.connection import connect
from varve.kafka.offsets import TopicOffsets
from varve.kafka.topics import TopicPlan, ensure_topics
from varve.model.errors import NeedsOperator, VarveError
from varve.services.ingest_plans import ingest_plans
from varve.settings import load
from varve.spark.ingest import IngestQuery
from varve.storage.bounds import Bounds
from varve.storage.snapshot import snapshot
from varve.storage.table import create_tables

pytestmark = [pytest.mark.spark, pytest.mark.kafka]

DEADLINE_S = 120
# Every query of the settings from Kafka to the tables, with all that Spark and Kafka's client say.
PROGRAM = '''
from varve.services.ingest_plans import ingest_plans
from varve.services.logs import configure_logging
from varve.services.streams import run_queries, start_ingest, with_topics
from varve.settings import load
from varve.spark.session import local_conf, session
configure_logging()
settings, _ = load()
plans = with_topics(ingest_plans(settings, available_now=True))
print(settings, plans)
scratch = settings.home / "spark"
scratch.mkdir(parents=True)
logging = scratch / "log4j2.properties"
logging.write_text("""
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %p %c %m%n%ex
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
logger.kafka.name = org.apache.kafka
logger.kafka.level = info
logger.spark.name = org.apache.spark
logger.spark.level = info
""")
conf = local_conf("local[2]", 512, scratch)
conf["spark.driver.extraJavaOptions"] += f" -Dlog4j2.configurationFile={logging}"
spark = session("varve-test", conf)
raise SystemExit(run_queries(spark, [start_ingest(plan) for plan in plans]))
'''


@pytest.fixture(scope="module")
def estate(tmp_path_factory):
    estate = Estate(tmp_path_factory.mktemp("estate"))
    estate.start()
    yield estate
    estate.broker.stop()


class Team:
    """Topics that exist already, and the settings of those who may write and read them."""

    def __init__(self, estate, folder):
        self.estate, self.folder = estate, folder
        self.topic = f"team-{uuid.uuid4().hex[:8]}"
        admin = estate.admin()
        ensure_topics(admin, [TopicPlan(self.topic, 2), TopicPlan(f"{self.topic}-critical", 1)])
        admin.close()
        (folder / "password").write_text(PASSWORD + "\n")

    def file(self, user, mechanism, **changes):
        values = {
            "bootstrap_servers": self.estate.servers("SASL_SSL"),
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": mechanism,
            "username": user,
            "password": f"file:{self.folder / 'password'}",
            "ca_file": str(self.estate.ca_file),
        } | changes
        kafka = "".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items() if v)
        file = self.folder / f"{user}-{mechanism}.toml"
        file.write_text(
            f"home = {json.dumps(str(self.folder / 'home'))}\n[kafka]\n{kafka}"
            f'options = {{ "max.poll.records" = "100" }}\n[kafka.topics]\nraw = "{self.topic}"\n'
            f'critical = "{self.topic}-critical"\nseries = "{self.topic}-no-series"\n'
        )
        return file

    def settings(self, user, mechanism, **changes):
        settings, _ = load(self.file(user, mechanism, **changes), {})
        return settings

    def produce(self, mechanism, value):
        kafka = self.settings(WRITER, mechanism).kafka
        with Producer(
            kafka.servers(), kafka.topics.raw, options=kafka.client_options(), stale_markers=False
        ) as producer:
            producer.gauge("load", value, {"mechanism": mechanism})
        assert producer.counts().lost == 0, producer.counts()

    def stored(self):
        settings = self.settings(READER, "PLAIN")
        (plan,) = ingest_plans(settings, ["bulk"])
        return sorted(snapshot(plan.store, "samples").scan(Bounds())["value"].to_pylist())


@pytest.fixture
def team(estate, tmp_path):
    team = Team(estate, tmp_path)
    for topic in (team.topic, f"{team.topic}-critical"):
        estate.allow(WRITER, topic, ACLOperation.WRITE)
        estate.allow(READER, topic, ACLOperation.READ, ACLOperation.DESCRIBE)
    return team


def test_samples_arrive_with_a_login_by_plain_and_no_right_but_to_read_and_describe(team, spark):
    team.produce("PLAIN", 1.0)
    (plan,) = ingest_plans(team.settings(READER, "PLAIN"), ["bulk"], available_now=True)
    create_tables(plan.store)

    query = IngestQuery(spark.newSession(), plan)
    deadline = time.monotonic() + DEADLINE_S
    while not query.done:
        query.raise_failure()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    query.raise_failure()
    query.stop()

    assert team.stored() == [1.0]


def test_samples_arrive_with_a_login_by_scram_and_nobody_tells_the_password(team, capsys):
    for value, mechanism in enumerate(["SCRAM-SHA-256", "SCRAM-SHA-512"]):
        team.produce(mechanism, float(value))
    file = team.file(READER, "SCRAM-SHA-512")

    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        env=os.environ
        | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "VARVE_CONFIG": str(file)},
        capture_output=True,
        text=True,
        check=False,
        timeout=DEADLINE_S,
    )
    said = ended.stdout + ended.stderr
    assert main(["config", "--config", str(file)]) == 0
    shown = capsys.readouterr().out

    assert ended.returncode == 0, said[-3_000:]
    assert team.stored() == [0.0, 1.0]
    # Kafka's client does say how it is set up, so what is not there is hidden, not unsaid.
    told = [line.strip() for line in said.splitlines() if "sasl.jaas.config" in line]
    assert set(told) == {"sasl.jaas.config = [hidden]"}, said[-5_000:]
    assert 'kafka.password = "***"' in shown
    for text in (said, shown):
        for secret in (PASSWORD, "never", json.dumps(PASSWORD)[1:-1]):
            assert secret not in text


def test_tls_without_a_login(team):
    servers = team.estate.servers("SSL")
    settings = team.settings(
        "nobody",
        "",
        bootstrap_servers=servers,
        security_protocol="SSL",
        username="",
        password="",
    )

    with Producer(servers, team.topic, options=settings.kafka.client_options()) as producer:
        producer.gauge("load", 1)

    assert producer.counts().acknowledged > 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"password": "wrong-hush"}, "kafka.password"),
        ({"sasl_mechanism": "SCRAM-SHA-512", "password": "wrong-hush"}, "kafka.password"),
        ({"ca_file": ""}, "kafka.ca_file"),
    ],
)
def test_a_login_that_is_refused_is_an_error_that_names_the_setting(team, changes, words):
    kafka = team.settings(READER, "PLAIN", **changes).kafka
    cluster = Cluster(kafka.servers(), kafka.client_options())

    with pytest.raises(NeedsOperator) as ours:
        TopicOffsets(cluster, [team.topic], connect_s=3)
    with pytest.raises(NeedsOperator) as theirs:
        Producer(kafka.servers(), team.topic, options=kafka.client_options(), connect_s=3)

    for caught in (ours, theirs):
        assert words in str(caught.value)
        assert kafka.servers() in str(caught.value)
        assert "hush" not in str(caught.value)


def test_a_protocol_the_brokers_do_not_speak_there_is_an_error(team):
    servers = team.estate.servers("SASL_SSL")

    with pytest.raises(VarveError, match=servers):
        Producer(servers, team.topic, connect_s=3)


def test_a_topic_that_may_not_be_described_or_created_is_an_error_that_says_so(team):
    hidden = f"{team.topic}-hidden"
    admin = team.estate.admin()
    ensure_topics(admin, [TopicPlan(hidden, 1)])
    admin.close()
    settings = team.settings(READER, "PLAIN")
    cluster = Cluster(settings.kafka.servers(), settings.kafka.client_options())
    topics = TopicOffsets(cluster, [hidden])
    reader = connect(KafkaAdminClient, cluster.python_options())

    with pytest.raises(NeedsOperator, match="let this user describe"):
        topics.partitions()
    with pytest.raises(NeedsOperator, match="have them created"):
        ensure_topics(reader, [TopicPlan(team.topic, 2), TopicPlan(f"{team.topic}-new", 1)])
    assert ensure_topics(reader, [TopicPlan(team.topic, 2)]) == []
    topics.close()
    reader.close()


def test_samples_nobody_may_write_are_counted_as_lost(team):
    kafka = team.settings(READER, "PLAIN").kafka
    producer = Producer(kafka.servers(), team.topic, options=kafka.client_options())
    producer.gauge("load", 1)

    counts = producer.close()

    assert counts.lost == counts.accepted == 2
    assert "Authorization" in counts.last_error
