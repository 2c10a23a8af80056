"""Asks a running sidecar which keys are in force, over its admin listener. Changes nothing there."""

from __future__ import annotations

import http.client
import ipaddress
import json
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sidecar.cli.command import WrongUsage
from sidecar.errors import ConfigError
from sidecar.setting_values import socket_path
from sidecar.settings import Settings

PATIENCE = 5.0
"""Seconds a running sidecar gets to notice a changed keys.json."""
_INTERVAL = 0.1
_PATIENCE = 2.0
"""Seconds for one answer."""


@dataclass(frozen=True, slots=True)
class Admin:
    """Where an admin listener is to be found."""

    host: str = "localhost"
    port: int = 0
    socket: Path | None = None
    certificate: Path | None = None
    """That of a listener behind TLS: whoever answers must have this one."""

    def __str__(self) -> str:
        if self.socket is not None:
            return f"unix:{self.socket}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class InForce:
    """What is known of a change in the running sidecar, in `text`; `known`: one said that it has it."""

    known: bool
    text: str


def admin_of(text: str | None, settings: Settings) -> Admin | None:
    """The address of `--admin HOST:PORT` or `--admin unix:PATH`, else that of the settings; None where they have none (`off`, or
    port 0) that this command could ask.

    Raises WrongUsage when `text` is no address.
    """
    if text is not None and text.startswith("unix:"):
        return Admin(socket=Path(text.removeprefix("unix:")).expanduser())
    listener = settings.listeners.admin
    certificate = None if listener is None else listener.tls.cert
    if text is not None:
        host, _, port = text.rpartition(":")
        if not host or not (port.isascii() and port.isdigit()) or not 0 < int(port) <= 65535:
            raise WrongUsage(f"--admin `{text}` is not HOST:PORT; write e.g. `127.0.0.1:11180`, or `unix:/path`")
        return Admin(host.removeprefix("[").removesuffix("]"), int(port), certificate=certificate)
    if listener is not None and (path := socket_path(listener.bind)) is not None:
        return Admin(socket=path)
    if listener is None or listener.port == 0 or listener.tls.client_ca is not None:
        return None
    bind = ipaddress.ip_address(listener.bind)
    host = listener.bind
    if bind.is_unspecified:
        host = "127.0.0.1" if bind.version == 4 else "::1"
    return Admin(host, listener.port, certificate=certificate)


def wait_until_in_force(admin: Admin | None, revision: Callable[[], str], patience: float = PATIENCE) -> InForce:
    """Waits until the running sidecar uses the keys of `revision()`, and says so; says as well when none runs.

    `revision` is asked again each time: another edit after ours makes a newer one, which contains ours.
    Raises ConfigError when one runs and still has other keys after `patience` seconds: saved, but not in force.
    """
    if admin is None:
        return InForce(
            False,
            "the settings name no admin listener that this command could ask (one with `tls.client_ca` it could not), so it is "
            "not known whether a running sidecar has the change; its log says",
        )
    deadline = time.monotonic() + patience
    while True:
        in_force = _revision_at(admin)
        if in_force is None:
            return InForce(
                False,
                f"no running sidecar answers at {admin} (if one runs with another admin address, name it with --admin)",
            )
        wanted = revision()
        if in_force == wanted:
            return InForce(True, f"in force: the running sidecar at {admin} has revision {wanted[:12]}")
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"the change is saved, but the one running at {admin} still has {in_force[:12]}, not {wanted[:12]}; "
                "look into its log, and whether it uses this keys file"
            )
        time.sleep(_INTERVAL)


def _revision_at(admin: Admin) -> str | None:
    """The revision in force, or None when nobody listens there. Raises ConfigError when something else answers."""
    connection = _connection(admin)
    try:
        connection.request("GET", "/api/revision", headers={"Accept": "application/json"})
        reply = connection.getresponse()
        body = json.loads(reply.read(65536))
        revision = body["revision"] if reply.status == 200 else None
    except ConnectionRefusedError:
        return None
    except FileNotFoundError as error:
        if admin.socket is not None:
            return None
        raise _not_confirmed(admin, str(error)) from None
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError) as error:
        raise _not_confirmed(admin, str(error) or type(error).__name__) from None
    finally:
        connection.close()
    if not isinstance(revision, str):
        raise _not_confirmed(admin, f"it answered with status {reply.status}")
    return revision


def _connection(admin: Admin) -> http.client.HTTPConnection:
    if admin.socket is not None:
        return _SocketConnection(admin.socket)
    if admin.certificate is None:
        return http.client.HTTPConnection(admin.host, admin.port, timeout=_PATIENCE)
    return _PinnedConnection(admin.host, admin.port, admin.certificate)


class _SocketConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(_PATIENCE)
        self.sock.connect(str(self._path))


class _PinnedConnection(http.client.HTTPSConnection):
    """Names and CAs do not matter: it must be the certificate of the settings."""

    def __init__(self, host: str, port: int, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        super().__init__(host, port, timeout=_PATIENCE, context=context)
        self._certificate = certificate

    def connect(self) -> None:
        super().connect()
        assert isinstance(self.sock, ssl.SSLSocket)
        shown = self.sock.getpeercert(binary_form=True)
        if shown != ssl.PEM_cert_to_DER_cert(_first_certificate(self._certificate)):
            raise ssl.SSLError(f"it shows another certificate than `{self._certificate}`")


def _first_certificate(path: Path) -> str:
    text = path.read_text(encoding="ascii", errors="ignore")
    start, end = text.find("-----BEGIN CERTIFICATE-----"), text.find("-----END CERTIFICATE-----")
    return text[start : end + len("-----END CERTIFICATE-----")]


def _not_confirmed(admin: Admin, reason: str) -> ConfigError:
    return ConfigError(
        f"the change is saved, but {admin} does not say which keys are in force ({reason}); "
        "name the admin listener with --admin HOST:PORT or unix:PATH"
    )
