"""Dockerfile, compose files and what they lead to: valid, true to each other, and open to nobody. Needs no engine."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine import PROJECT
from real_parts import need_program

from sidecar.config import load_settings
from sidecar.settings import Settings

COMPOSE = ("docker-compose.yml", "docker-compose.host.yml")
OPEND = {"sandbox", "opend"}


def services(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROJECT / name).read_text())["services"]
    return found


def defaults(text: str) -> str:
    """A text as compose reads it where the environment says nothing."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=PROJECT)


@pytest.mark.real_part
def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    done = run(need_program("hadolint"), "Dockerfile")
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.real_part
@pytest.mark.parametrize("name", COMPOSE)
def test_the_compose_files_are_valid_by_the_schema_of_compose(name: str) -> None:
    done = run(need_program("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", name)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real_part
@pytest.mark.parametrize("name", COMPOSE)
def test_compose_reads_them_with_every_profile(name: str) -> None:
    done = run(need_program("podman-compose"), "-f", name, "--profile", "sandbox", "--profile", "opend", "config")
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == set(services(name))


@pytest.mark.parametrize("name", COMPOSE)
def test_what_a_compose_file_mounts_from_here_is_here(name: str) -> None:
    mounted = [defaults(one).partition(":")[0] for each in services(name).values() for one in each.get("volumes", ())]
    here = [one for one in mounted if one.startswith("./") and one != "./opend-rsa.pem"]
    assert len(here) >= 3
    assert [one for one in here if not (PROJECT / one).exists()] == []


@pytest.mark.parametrize("name", COMPOSE)
def test_ports_are_published_on_this_machine_only_and_opends_not_at_all(name: str) -> None:
    for service, each in services(name).items():
        for port in each.get("ports", ()):
            assert port.startswith("127.0.0.1:"), (service, port)
        if service in OPEND:
            assert "ports" not in each
            assert set(each["networks"]) == {"private"}
    if name == "docker-compose.yml":
        reach_opend = {service for service, each in services(name).items() if "private" in each["networks"]}
        assert reach_opend == {"sidecar", *OPEND}


@pytest.mark.parametrize("name", COMPOSE)
def test_nothing_of_ours_can_write_to_its_image_or_gain_rights(name: str) -> None:
    for service, each in services(name).items():
        if service == "opend":
            continue
        assert each["read_only"] is True, service
        assert each["cap_drop"] == ["ALL"], service
        assert each["security_opt"] == ["no-new-privileges:true"], service
        assert "privileged" not in each, service


def test_both_files_run_the_same_sidecar_but_for_its_network() -> None:
    bridge, host = (services(name)["sidecar"] for name in COMPOSE)
    network = {"networks", "network_mode", "ports", "command", "volumes", "environment"}
    assert {k: v for k, v in bridge.items() if k not in network} == {k: v for k, v in host.items() if k not in network}
    assert bridge["command"][:-1] == host["command"][:-1]
    assert set(bridge["environment"]) == set(host["environment"])
    assert bridge["volumes"][:2] == host["volumes"][:2]


def test_env_example_names_every_variable_with_its_default() -> None:
    used: dict[str, set[str]] = {}
    for name in COMPOSE:
        for variable, default in re.findall(r"\$\{(\w+):-([^}]*)\}", (PROJECT / name).read_text()):
            used.setdefault(variable, set()).add(default)
    named = dict(re.findall(r"(?m)^# ([A-Z0-9_]+)=(.*)$", (PROJECT / ".env.example").read_text()))
    assert set(named) == set(used)
    differing = {"SIDECAR_CONFIG", "SIDECAR_MACHINE_ID_FILE", "OPEND"}  # one default for each file
    assert {k: v for k, v in named.items() if v not in used[k]}.keys() <= differing


@pytest.mark.parametrize("name", ["sidecar.yaml", "sidecar.host.yaml"])
def test_the_settings_of_containers_load_and_differ_only_in_where_they_listen(name: str) -> None:
    listeners = load_settings(PROJECT / "deploy/container" / name, {}).listeners
    usual = Settings().listeners
    doors = [*listeners.tcp, listeners.websocket, listeners.rest, listeners.grpc, listeners.mcp, listeners.admin]
    binds = {door.bind for door in doors if door is not None}
    assert binds == ({"0.0.0.0"} if name == "sidecar.yaml" else {"127.0.0.1"})
    assert listeners.admin is not None
    assert listeners.admin.allowed_hosts == ("sidecar",)
    assert [door.port for door in doors if door is not None] == [
        door.port
        for door in [*usual.tcp, usual.websocket, usual.rest, usual.grpc, usual.mcp, usual.admin]
        if door is not None
    ]


def test_the_image_exposes_the_ports_of_the_settings_and_its_health_check_asks_the_admin_listener() -> None:
    text = (PROJECT / "Dockerfile").read_text()
    usual = Settings().listeners
    doors = [*usual.tcp, usual.websocket, usual.rest, usual.grpc, usual.mcp, usual.admin]
    exposed = re.search(r"(?m)^EXPOSE (.*)$", text)
    assert exposed is not None
    assert exposed.group(1).split() == [str(door.port) for door in doors if door is not None]
    assert usual.admin is not None
    assert f"'127.0.0.1', {usual.admin.port}" in text
    assert "/healthz" in text
    assert "'/readyz'" not in text


def test_prometheus_asks_the_admin_listener_by_a_name_it_answers_to() -> None:
    scraped = yaml.safe_load((PROJECT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert [each["static_configs"] for each in scraped] == [[{"targets": ["sidecar:11180"]}]]


def test_nothing_but_the_program_is_sent_to_whoever_builds_the_image() -> None:
    """SECURITY: .dockerignore allows by name; a keys.json in this folder stays here."""
    lines = [line for line in (PROJECT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    allowed = {line[1:] for line in lines if line.startswith("!")}
    assert allowed == {"pyproject.toml", "README.md", "LICENSE", "sidecar", "deploy/container/sidecar.yaml"}
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", (PROJECT / "Dockerfile").read_text())
    assert {one for line in copied for one in line.split()} == allowed


def test_grafana_is_given_the_data_source_that_its_dashboards_will_ask() -> None:
    folder = PROJECT / "deploy/grafana/provisioning"
    [source] = yaml.safe_load((folder / "datasources/prometheus.yaml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "$PROMETHEUS_URL")
    for name in COMPOSE:
        assert services(name)["grafana"]["environment"]["PROMETHEUS_URL"].startswith("http://")
    [provider] = yaml.safe_load((folder / "dashboards/opend-sidecar.yaml").read_text())["providers"]
    assert Path(provider["options"]["path"]) == Path("/etc/grafana/provisioning/dashboards")
