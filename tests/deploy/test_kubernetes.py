"""The Kubernetes manifests: valid by Kubernetes' own schema, closed, and true to the settings. No cluster runs them here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from real_parts import PROJECT, need

from sidecar.config import load_settings
from sidecar.keys.file import load
from sidecar.settings import Settings

FOLDER = PROJECT / "deploy/kubernetes"
BOTS = ("tcp", "websocket", "rest", "grpc", "mcp")


def manifests() -> list[dict[str, Any]]:
    return [
        document
        for path in sorted(FOLDER.glob("*.yaml"))
        if path.name != "kustomization.yaml"
        for document in yaml.safe_load_all(path.read_text())
    ]


def one(kind: str, name: str = "opend-sidecar") -> dict[str, Any]:
    [found] = [each for each in manifests() if each["kind"] == kind and each["metadata"]["name"] == name]
    return found


def pod() -> dict[str, Any]:
    found: dict[str, Any] = one("StatefulSet")["spec"]["template"]["spec"]
    return found


def container(name: str) -> dict[str, Any]:
    [found] = [each for each in pod()["containers"] if each["name"] == name]
    return dict(found)


def ports_of_settings() -> dict[str, int]:
    listeners = Settings().listeners
    doors = {name: getattr(listeners, name) for name in ("websocket", "rest", "grpc", "mcp", "admin")}
    return {"tcp": listeners.tcp[0].port, **{name: door.port for name, door in doors.items()}}


def validated(*files: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("kubernetes-validate")
    need("kubernetes-validate", program.exists())
    command = [str(program), "--strict", "--kubernetes-version", "1.33.0", *map(str, files)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.real_part
def test_every_manifest_is_valid_by_the_strict_schema_of_kubernetes() -> None:
    done = validated(*(path for path in sorted(FOLDER.glob("*.yaml")) if path.name != "kustomization.yaml"))
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.real_part
def test_a_misspelt_field_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "statefulset.yaml"
    wrong.write_text(
        (FOLDER / "statefulset.yaml").read_text().replace("readOnlyRootFilesystem", "readonlyRootFilesystem")
    )
    assert validated(wrong).returncode != 0


def test_kustomize_takes_every_manifest_but_the_examples_of_secrets() -> None:
    """Applied again, an example would put old keys back."""
    wanted = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
    others = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml", "keys.secret.example.yaml"}
    assert set(wanted["resources"]) == others
    assert {each["metadata"].get("namespace", wanted["namespace"]) for each in manifests()} == {wanted["namespace"]}


def test_the_settings_load_and_let_the_network_in(tmp_path: Path) -> None:
    file = tmp_path / "sidecar.yaml"
    file.write_text(one("ConfigMap")["data"]["sidecar.yaml"])
    settings = load_settings(file, {})
    others = [getattr(settings.listeners, name) for name in ports_of_settings() if name != "tcp"]
    assert {door.bind for door in (*settings.listeners.tcp, *others)} == {"0.0.0.0"}
    assert (settings.upstream.host, settings.upstream.port) == ("127.0.0.1", 11111), "OpenD is in the same pod"


def test_the_example_of_keys_loads(tmp_path: Path) -> None:
    file = tmp_path / "keys.json"
    file.write_text(one("Secret", "opend-sidecar-keys")["stringData"]["keys.json"])
    file.chmod(0o600)
    assert load(file, None).records == ()
    assert json.loads(file.read_text())["version"] == 1


def test_ports_are_those_of_the_settings_and_only_the_doors_for_bots_are_a_service() -> None:
    assert {port["name"]: port["containerPort"] for port in container("sidecar")["ports"]} == ports_of_settings()
    service = {port["name"]: port for port in one("Service")["spec"]["ports"]}
    assert set(service) == set(BOTS)
    assert {name: port["port"] for name, port in service.items()} == {
        name: port for name, port in ports_of_settings().items() if name in BOTS
    }
    assert {port["targetPort"] for port in service.values()} == set(BOTS)


def test_opend_is_reached_by_nobody_outside_of_its_pod() -> None:
    policy = one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["podSelector"]["matchLabels"] == one("StatefulSet")["spec"]["template"]["metadata"]["labels"]
    allowed = [{port["port"] for port in rule["ports"]} for rule in policy["ingress"]]
    assert allowed == [set(BOTS), {"admin"}], "by name: OpenD's port has none"
    assert all(rule["from"] for rule in policy["ingress"])
    assert "ports" not in container("opend")
    assert {"name": "FUTU_OPEND_IP", "value": "127.0.0.1"} in container("opend")["env"]


def test_the_sidecar_runs_bare_and_opend_gains_nothing() -> None:
    context = container("sidecar")["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["readOnlyRootFilesystem"] is True
    for name in ("sidecar", "opend"):
        assert container(name)["securityContext"]["allowPrivilegeEscalation"] is False
        assert container(name)["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert pod()["automountServiceAccountToken"] is False
    assert "hostNetwork" not in pod()


def test_it_is_never_started_again_or_hidden_because_opend_is_away() -> None:
    for probe in ("readinessProbe", "livenessProbe"):
        assert container("sidecar")[probe]["httpGet"] == {"path": "/healthz", "port": "admin"}
    assert pod()["terminationGracePeriodSeconds"] > Settings().drain


def test_keys_come_as_a_folder_that_the_sidecars_user_can_read() -> None:
    mounts = {mount["name"]: mount for mount in container("sidecar")["volumeMounts"]}
    assert "subPath" not in mounts["keys"]
    [keys] = [volume["secret"] for volume in pod()["volumes"] if volume["name"] == "keys"]
    assert keys == {"secretName": "opend-sidecar-keys", "defaultMode": 0o440}
    assert pod()["securityContext"]["fsGroup"] == container("sidecar")["securityContext"]["runAsGroup"]
    assert mounts["state"]["mountPath"] == "/home/sidecar/.local/state"


def test_there_is_one_of_it() -> None:
    assert one("StatefulSet")["spec"]["replicas"] == 1
