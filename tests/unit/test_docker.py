"""No engine builds the images here: what their files say is checked against the project."""

from __future__ import annotations

import argparse
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from varve.cli import serve
from varve.settings import load
from varve.setup.environment import pinned
from varve.setup.preflight import CHECKS

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES = COMPOSE["services"]
OURS = {name: s for name, s in SERVICES.items() if s["image"].startswith("varve-")}
SECRETS = {"VARVE_TOKEN": "t" * 20, "VARVE_S3_SECRET": "s" * 20}
with pytest.MonkeyPatch.context() as patch:
    for name, value in SECRETS.items():
        patch.setenv(name, value)
    SETTINGS, _ = load(DOCKER / "varve.toml", env={})
LINES = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()


def stages():
    """Lines by stage, with those of the stages it is made from before its own."""
    found, name = {}, ""
    for line in LINES:
        if made := re.match(r"FROM (\S+) AS (\S+)", line):
            base, name = made.groups()
            found[name] = list(found.get(base, [line]))
        elif name:
            found[name].append(line)
    return found


def last(lines, word):
    return next(line.removeprefix(f"{word} ") for line in lines[::-1] if line.startswith(word))


def targets():
    return {s["image"]: s["build"]["target"] for s in OURS.values()}


def test_what_is_copied_exists_and_is_in_the_context():
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    copied = [
        path
        for line in LINES
        if line.startswith("COPY") and "--from" not in line
        for path in line.split()[1:-1]
    ]
    assert len(copied) >= 8
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored, path
    packaged = re.search(r"sdist\]\ninclude = (\[.*\])", (ROOT / "pyproject.toml").read_text())[1]
    assert set(json.loads(packaged)) <= set(copied)


def test_images_have_the_versions_that_the_project_is_tested_with():
    assert {line.split()[1] for line in LINES if line.startswith("FROM python")} == {
        "python:3.11-slim-bookworm"
    }
    assert set(re.findall(r"openjdk-(\d+)-", DOCKERFILE)) == {"17"}
    broker = re.search(
        r'name="kafka_2.13" rev="([\d.]+)"', (ROOT / "conf" / "ivy-kafka.xml").read_text()
    )[1]
    assert {s["image"] for n, s in SERVICES.items() if n in ("kafka", "topics")} == {
        f"apache/kafka:{broker}"
    }
    for service in SERVICES.values():
        assert ":" in service["image"] or service["image"].startswith("varve-"), "a tag, no latest"
    assert "apache_airflow_core" in pinned(ROOT / "airflow" / "requirements.lock")


def test_set_up_in_the_image_is_that_of_the_makefile_and_skips_checks_that_there_are():
    skipped = re.search(r"PREFLIGHT_SKIP=(\S+)", DOCKERFILE)[1].split(",")
    assert set(skipped) <= set(CHECKS)
    verbs = re.findall(r"-m varve\.setup (\w+)", DOCKERFILE)
    assert verbs == ["install", "airflow"]
    done = subprocess.run(
        [sys.executable, "-m", "varve.setup", "--help"],
        env={"PYTHONPATH": str(ROOT / "pipelines")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert all(verb in done.stdout for verb in verbs)


@pytest.mark.parametrize("target", sorted(set(targets().values())))
def test_every_image_runs_as_one_user_who_is_not_root_and_owns_its_home(target):
    lines = stages()[target]

    assert last(lines, "USER") == "varve"
    assert any("--uid 10001" in line and "/var/lib/varve" in line for line in lines)
    assert "VARVE_HOME=/var/lib/varve" in " ".join(lines)
    assert last(lines, "VOLUME") == "/var/lib/varve"
    assert all("--chown=varve:varve" in line for line in lines if line.startswith("COPY --from"))


@pytest.mark.parametrize("name", sorted(OURS))
def test_every_command_is_one_of_the_project(name):
    service = OURS[name]
    lines = stages()[service["build"]["target"]]
    command = service.get("command", json.loads(last(lines, "CMD")))
    words = [*service.get("entrypoint", json.loads(last(lines, "ENTRYPOINT"))), *command]
    assert service["build"]["dockerfile"] == "docker/Dockerfile"
    if words[0] == "varve":
        assert words[1] == "serve"
        parser = argparse.ArgumentParser()
        serve.configure(parser)
        args = parser.parse_args(words[2:])
        assert args.service in {"query", "gateway", "collector", "maintenance"}
        return
    script = ROOT / words[1]
    assert script.exists()
    if script.parent.name == "jobs":
        shown = subprocess.run(
            [sys.executable, script, "--help"],
            env={"PYTHONPATH": str(ROOT / "pipelines")},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        assert all(option in shown for option in words if option.startswith("--"))
    else:
        text = script.read_text()
        assert all(f'"{option}"' in text for option in words if option.startswith("--"))


def test_the_settings_are_valid_and_every_container_has_what_they_ask_for():
    assert SETTINGS.storage.cold_root
    assert not SETTINGS.maintenance.enabled
    asked = set(re.findall(r"env:(\w+)", (DOCKER / "varve.toml").read_text()))
    assert asked == SECRETS.keys()
    for name, service in OURS.items():
        given = service["environment"]
        assert asked <= given.keys(), name
        assert given["VARVE_CONFIG"] == "/etc/varve/varve.toml"
        assert "./varve.toml:/etc/varve/varve.toml:ro" in service["volumes"], name
    wanted = set(re.findall(r"\$\{(\w+):\?", (DOCKER / "compose.yaml").read_text()))
    example = re.findall(r"^(\w+)=\S+$", (DOCKER / "example.env").read_text(), re.MULTILINE)
    assert wanted == set(example)


def test_ports_are_those_of_the_settings_and_published_on_loopback_alone():
    inside = {"query": SETTINGS.query.port, "gateway": SETTINGS.gateway.port}
    for name, service in SERVICES.items():
        for published in service.get("ports", ()):
            address, outer, inner = published.split(":")
            assert address == "127.0.0.1"
            assert outer == inner
            if name in inside:
                assert int(inner) == inside[name]
    for name, port in inside.items():
        assert f":{port}/-/ready" in " ".join(SERVICES[name]["healthcheck"]["test"])
    exposed = {int(p) for line in LINES if line.startswith("EXPOSE") for p in line.split()[1:]}
    assert exposed == {*inside.values(), SETTINGS.telemetry.port, 8080}
    host, port = SETTINGS.kafka.bootstrap_servers.split(":")
    assert (
        f"PLAINTEXT://{host}:{port}" == SERVICES[host]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    )
    assert host in SERVICES
    assert "query" in SETTINGS.query.allowed_hosts.split(",")
    for options in (SETTINGS.storage.options, SETTINGS.storage.cold_options):
        endpoint = options["AWS_ENDPOINT_URL"].get_secret_value()
        assert endpoint == "http://minio:9000"
    assert SERVICES["minio"]["environment"]["MINIO_ROOT_USER"] == "varve"


def test_every_ingest_query_has_its_container():
    commands = [
        " ".join(s["command"]) for s in OURS.values() if "jobs/ingest.py" in s.get("command", "")
    ]
    for query in SETTINGS.ingest_queries():
        assert any(command.endswith(f"--query {query}") for command in commands), query


def test_topics_and_bucket_are_those_of_the_settings():
    made = (
        re.search(r"for topic in ([^;]+);", SERVICES["topics"]["command"][0])[1]
        .replace("\\", " ")
        .split()
    )
    # One gateway has nobody to agree with who leads.
    wanted = SETTINGS.kafka.topics.model_dump(exclude={"leaders"})
    assert set(made) == set(wanted.values())
    bucket = SETTINGS.storage.root.removeprefix("s3://").split("/")[0]
    assert shlex.split(SERVICES["bucket"]["command"][0])[-1] == f"here/{bucket}"


def test_what_services_depend_on_and_mount_exists():
    for name, service in SERVICES.items():
        assert set(service.get("depends_on", ())) <= SERVICES.keys(), name
        for mount in service.get("volumes", ()):
            source = mount.split(":")[0]
            there = (DOCKER / source).exists() if source.startswith(".") else source in VOLUMES
            assert there, (name, source)


VOLUMES = COMPOSE["volumes"]


def test_grafana_gets_what_its_files_ask_for():
    files = DOCKER / "grafana"
    asked = set(
        re.findall(r"\$\{(\w+)\}", (files / "provisioning/datasources/varve.yaml").read_text())
    )
    grafana = SERVICES["grafana"]
    assert asked <= grafana["environment"].keys()
    assert grafana["environment"]["VARVE_URL"] == f"http://query:{SETTINGS.query.port}"
    provider = yaml.safe_load((files / "provisioning/dashboards/varve.yaml").read_text())
    path = provider["providers"][0]["options"]["path"]
    assert f"./grafana/dashboards:{path}:ro" in grafana["volumes"]
