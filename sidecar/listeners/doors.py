"""All doors of one sidecar: those of the clients, told together what concerns them all, and the owner's. What stands behind a door,
and in which order a sidecar stops, is the app's to know.
"""

from __future__ import annotations

from collections.abc import Iterator

import structlog

from sidecar.errors import ConfigError
from sidecar.keys.ring import KeyStore
from sidecar.listener_settings import TcpListener
from sidecar.listeners.admin import AdminListener
from sidecar.listeners.admin_socket import AdminSocket
from sidecar.listeners.certificate import Certificates
from sidecar.listeners.door import Door
from sidecar.listeners.tcp.door import TcpDoor
from sidecar.settings import Settings
from sidecar.wire.encryption import RsaKey

log = structlog.get_logger()


class OwnersDoors:
    """Open from the first to the last: nobody else's doing may keep the owner from halting."""

    def __init__(self, socket: AdminSocket, admin: AdminListener | None) -> None:
        """`admin`: None where the settings say `off`."""
        self._socket = socket
        self._admin = admin

    async def open(self) -> int | str | None:
        """Where the admin listener is, as `Door.start` tells it. Raises ConfigError when its place cannot be had.

        A socket that cannot be had does not keep the sidecar from running: there is still the file HALT.
        """
        try:
            await self._socket.start()
        except ConfigError as error:
            log.warning(
                "`halt`, `resume` and `status` cannot reach this sidecar; the file HALT can", problem=str(error)
            )
        return None if self._admin is None else await self._admin.start()

    async def stop(self) -> None:
        """Does nothing where none was opened."""
        if self._admin is not None:
            await self._admin.stop()
        await self._socket.stop()


class Doors:
    """Those of the clients. Lives on the event loop."""

    def __init__(self) -> None:
        self.named: list[tuple[str, Door]] = []
        """In the order in which they are opened, each with its listener's name in the settings."""
        self.ports: dict[str, list[int]] = {}
        """Listener as in the settings → its ports; closed ones and unix sockets are not in it."""
        self.sockets: dict[str, list[str]] = {}
        """Listener → its unix sockets, as `unix:/path`."""

    def __iter__(self) -> Iterator[Door]:
        return (door for _, door in self.named)

    def add(self, listener: str, door: Door) -> None:
        self.named.append((listener, door))

    async def open(self) -> None:
        """Raises ConfigError when a place cannot be had."""
        for listener, door in self.named:
            self.note(listener, await door.start())

    def note(self, listener: str, place: int | str | None) -> None:
        """Where a door is: its port, `unix:/path`, or None where it stays closed."""
        if isinstance(place, str):
            self.sockets.setdefault(listener, []).append(place)
        elif place is not None:
            self.ports.setdefault(listener, []).append(place)

    def places(self) -> dict[str, list[int | str]]:
        """Listener → its ports and unix sockets."""
        return {
            name: [*self.ports.get(name, []), *self.sockets.get(name, [])] for name in {**self.ports, **self.sockets}
        }

    def tick(self) -> None:
        """Called every second."""
        for door in self:
            door.tick()

    def keys_changed(self) -> None:
        for door in self:
            door.keys_changed()

    def stop_accepting(self) -> None:
        for door in self:
            door.stop_accepting()

    def close_clients(self) -> None:
        for door in self:
            door.close_clients()

    async def stop(self) -> None:
        for door in self:
            await door.stop()


def tcp_doors(settings: Settings, keys: KeyStore, certificates: Certificates) -> list[TcpDoor]:
    """One for each of `listeners.tcp`, their RSA keys read. Raises ConfigError."""
    return [_tcp_door(each, place, settings, keys, certificates) for place, each in enumerate(settings.listeners.tcp)]


def _tcp_door(each: TcpListener, place: int, settings: Settings, keys: KeyStore, certificates: Certificates) -> TcpDoor:
    for key_id in [*([each.key] if each.key else []), *(key_id for key_id, _ in each.rsa_keys)]:
        if keys.ring.get(key_id) is None:
            raise ConfigError(
                f"setting `listeners.tcp`: key `{key_id}` is not in {keys.path}; make it with `gen-key --id {key_id}`"
            )
    limits = settings.limits
    return TcpDoor(
        bind=each.bind, port=each.port, key_id=each.key, shared_rsa=RsaKey.load(each.rsa_key) if each.rsa_key else None,
        rsa_keys={key_id: RsaKey.load(path) for key_id, path in each.rsa_keys}, allowed_ips=each.allowed_ips,
        request_cap=limits.request_body, client_buffer=limits.client_buffer, client_stall=limits.client_stall,
        max_clients=limits.max_clients,
        handshake_timeout=limits.handshake_timeout, frame_timeout=limits.frame_timeout, quarantine=settings.quarantine,
        socket_mode=each.socket_mode, certificate=certificates.of(f"listeners.tcp[{place}]"),
    )  # fmt: skip
