"""What a container does to the addresses of clients, as far as it shows from inside. Refuses nothing and changes nothing."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from sidecar.policy.key import Key

_DEVICES = Path("/sys/class/net")
_ROUTES = Path("/proc/net/route")


def address_advice(keys: Iterable[Key], bridged: bool) -> tuple[str, ...]:
    """Warnings about keys whose `allowed_ips` cannot tell clients apart here; each names its key."""
    if not bridged:
        return ()
    return tuple(
        f"key `{key.id}` has allowed_ips, but this is a container with a network of its own, in which clients from outside usually "
        "have the address of its gateway, whoever they are; allow that one, or use the network of the machine"
        for key in keys
        if key.allowed_ips is not None
    )


def in_bridge(environ: Mapping[str, str] = os.environ, devices: Path = _DEVICES, routes: Path = _ROUTES) -> bool:
    """Whether what leaves here goes through one end of a cable whose other end is not here (Linux; elsewhere always False).

    That is a container in bridge mode. In Kubernetes it looks the same, but there clients keep their addresses.
    """
    if "KUBERNETES_SERVICE_HOST" in environ:
        return False
    try:
        # proc(5): interface, destination, …; destination 0 is the default route
        rows = [line.split() for line in routes.read_text(encoding="ascii", errors="replace").splitlines()[1:]]
        return any(_cable(devices / row[0]) for row in rows if len(row) > 1 and row[1] == "00000000")
    except (OSError, ValueError):
        return False


def _cable(device: Path) -> bool:
    """A veth: it is linked to another device, as a VLAN is to the one below it, but is no device of such a kind."""
    own, linked = (int((device / name).read_text(encoding="ascii")) for name in ("ifindex", "iflink"))
    kind = (device / "uevent").read_text(encoding="utf-8", errors="replace")
    return own != linked and "DEVTYPE=" not in kind
