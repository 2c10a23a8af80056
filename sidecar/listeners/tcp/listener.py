"""The raw TCP door, as OpenD's own port speaks it: where it is, who is let in, and what its clients are told together. What one
client says and hears, `client` has.
"""

from __future__ import annotations

import asyncio
import ipaddress
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from sidecar.gate import Gate
from sidecar.listeners.entrance import Entrance, Place
from sidecar.listeners.handshake import handshake_failed
from sidecar.listeners.room import Room
from sidecar.listeners.tcp.client import Backing, TcpClient
from sidecar.listeners.tcp.door import TcpDoor
from sidecar.listeners.tcp.login import IFACE
from sidecar.relay.relay import RelaySettings
from sidecar.returns import Returns
from sidecar.upstream.pool import Pool

MAX_PARKED = 256
"""Connections refused because OpenD was away that are left open for their clients to close."""


class TcpListener:
    """Accepts clients at one place. `start` returns the port bound, or `unix:/path`; raises ConfigError when it is taken."""

    def __init__(
        self,
        door: TcpDoor,
        *,
        gate: Gate,
        returns: Returns,
        pool: Pool,
        relay: RelaySettings,
        spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:
        self._backing = Backing(door, gate, returns, pool, relay, spawn)
        self.clients: Room[TcpClient] = Room(IFACE, door.max_clients, gate.metrics)
        self._parked: deque[TcpClient] = deque()
        self._next_sweep = 0.0
        self._networks = None if door.allowed_ips is None else [ipaddress.ip_network(each) for each in door.allowed_ips]
        place = Place(
            door.bind, door.port, "`--tcp-port` or the setting `listeners.tcp`", door.socket_mode,
            door.certificate, door.handshake_timeout,
        )  # fmt: skip
        self._entrance = Entrance(place, partial(handshake_failed, gate, IFACE))

    async def start(self) -> int | str:
        make = partial(TcpClient, self._backing, self.clients, admits=self._admits, park=self._park)
        return await self._entrance.open(make)

    def stop_accepting(self) -> None:
        self._entrance.close()

    def close_clients(self) -> None:
        for client in self.clients:
            client.end("the sidecar is stopping")

    async def stop(self) -> None:
        self.stop_accepting()
        self.close_clients()

    def keys_changed(self) -> None:
        """After a reload: clients in quarantine whose key is good now are let go, so that they come back."""
        for client in self.clients:
            client.look_again()

    def tick(self) -> None:
        """Every second: end clients that are too slow to introduce themselves or to finish a frame, or too long in quarantine."""
        now = asyncio.get_running_loop().time()
        sweep = now >= self._next_sweep
        if sweep:
            self._next_sweep = now + self._backing.relay.request_timeout / 2
        for client in self.clients:
            client.tick(now)
            if sweep:
                client.sweep(now)

    def _park(self, client: TcpClient) -> None:
        """Keep a client whose InitConnect was refused open, as long as there are few of them."""
        self._parked.append(client)
        if len(self._parked) > MAX_PARKED:
            self._parked.popleft().end("InitConnect was refused long ago")

    def _admits(self, address: str) -> bool:
        if self._networks is None:
            return True
        parsed = ipaddress.ip_address(address)
        return any(parsed in network for network in self._networks)
