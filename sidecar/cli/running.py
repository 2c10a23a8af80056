"""Asks a running sidecar which keys are in force, over its admin listener. Changes nothing there."""

from __future__ import annotations

import http.client
import ipaddress
import json
import time
from collections.abc import Callable
from dataclasses import dataclass

from sidecar.errors import ConfigError
from sidecar.settings import Settings

PATIENCE = 5.0
"""Seconds a running sidecar gets to notice a changed keys.json."""
_INTERVAL = 0.1


@dataclass(frozen=True, slots=True)
class Admin:
    """Where an admin listener is to be found."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def admin_of(text: str | None, settings: Settings) -> Admin | None:
    """The address of `--admin HOST:PORT`, else that of the settings; None where they have none (`off`, or port 0).

    Raises ConfigError when `text` is no address.
    """
    if text is not None:
        host, _, port = text.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
            raise ConfigError(f"--admin `{text}` is not HOST:PORT; write e.g. `127.0.0.1:11180`")
        return Admin(host.removeprefix("[").removesuffix("]"), int(port))
    listener = settings.listeners.admin
    if listener is None or listener.port == 0:
        return None
    bind = ipaddress.ip_address(listener.bind)
    if bind.is_unspecified:
        return Admin("127.0.0.1" if bind.version == 4 else "::1", listener.port)
    return Admin(listener.bind, listener.port)


def wait_until_in_force(admin: Admin | None, revision: Callable[[], str], patience: float = PATIENCE) -> str:
    """Waits until the running sidecar uses the keys of `revision()`, and says so; says as well when none runs.

    `revision` is asked again each time: another edit after ours makes a newer one, which contains ours.
    Raises ConfigError when one runs and still has other keys after `patience` seconds: saved, but not in force.
    """
    if admin is None:
        return "the settings name no admin listener, so it is not known whether a running sidecar has the change"
    deadline = time.monotonic() + patience
    while True:
        in_force = _revision_at(admin)
        if in_force is None:
            return (
                f"no running sidecar answers at {admin} (if one runs with another admin address, name it with --admin)"
            )
        wanted = revision()
        if in_force == wanted:
            return f"in force: the running sidecar at {admin} has revision {wanted[:12]}"
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"the change is saved, but the one running at {admin} still has {in_force[:12]}, not {wanted[:12]}; "
                "look into its log, and whether it uses this keys file"
            )
        time.sleep(_INTERVAL)


def _revision_at(admin: Admin) -> str | None:
    """The revision in force, or None when nobody listens there. Raises ConfigError when something else answers."""
    connection = http.client.HTTPConnection(admin.host, admin.port, timeout=2.0)
    try:
        connection.request("GET", "/api/revision", headers={"Accept": "application/json"})
        reply = connection.getresponse()
        body = json.loads(reply.read(65536))
        revision = body["revision"] if reply.status == 200 else None
    except ConnectionRefusedError:
        return None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise _not_confirmed(admin, str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if not isinstance(revision, str):
        raise _not_confirmed(admin, f"it answered with status {reply.status}")
    return revision


def _not_confirmed(admin: Admin, reason: str) -> ConfigError:
    return ConfigError(
        f"the change is saved, but {admin} does not say which keys are in force ({reason}); "
        "name the admin listener with --admin HOST:PORT"
    )
