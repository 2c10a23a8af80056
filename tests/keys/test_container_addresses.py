"""Which networks are taken for a container's own, and what is said of keys whose allowed_ips mean little in one."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.keys.container import address_advice, in_bridge
from sidecar.policy.key import Key, Scope

BOUND = Key("bound", frozenset({Scope.QOT_READ}), allowed_ips=("10.0.0.0/24",))
FREE = Key("free", frozenset({Scope.QOT_READ}))


def network(folder: Path, index: int, linked: int, kind: str = "") -> dict[str, Path]:
    device = folder / "devices" / "eth0"
    device.mkdir(parents=True)
    (device / "ifindex").write_text(f"{index}\n")
    (device / "iflink").write_text(f"{linked}\n")
    (device / "uevent").write_text(f"{kind}INTERFACE=eth0\nIFINDEX={index}\n")
    routes = folder / "routes"
    routes.write_text("Iface\tDestination\tGateway\nlo\t0000007F\t0\neth0\t00000000\t0102590A\n")
    return {"devices": folder / "devices", "routes": routes}


def test_a_cable_whose_other_end_is_elsewhere_is_a_container(tmp_path: Path) -> None:
    assert in_bridge({}, **network(tmp_path, 3, 23))


@pytest.mark.parametrize(("linked", "kind"), [(3, ""), (2, "DEVTYPE=vlan\n")])
def test_a_card_or_a_vlan_is_none(tmp_path: Path, linked: int, kind: str) -> None:
    assert not in_bridge({}, **network(tmp_path, 3, linked, kind))


def test_a_pod_keeps_the_addresses_of_its_clients(tmp_path: Path) -> None:
    assert not in_bridge({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, **network(tmp_path, 3, 23))


def test_a_machine_that_says_nothing_of_its_network_is_none(tmp_path: Path) -> None:
    assert not in_bridge({}, tmp_path / "none", tmp_path / "none")


def test_only_keys_with_allowed_ips_are_doubted_and_only_in_a_container() -> None:
    [said] = address_advice([FREE, BOUND], bridged=True)
    assert said.startswith("key `bound` has allowed_ips, but this is a container")
    assert address_advice([FREE, BOUND], bridged=False) == ()
