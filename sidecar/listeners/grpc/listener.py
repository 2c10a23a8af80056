"""The gRPC door: its port, its connections, and the services behind it. What a call may do is decided elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

from grpclib.const import Handler
from grpclib.health.check import ServiceStatus
from grpclib.health.service import Health
from grpclib.reflection.service import ServerReflection

from sidecar.desks import Desks
from sidecar.listener_settings import GrpcListener as Settings
from sidecar.listeners.certificate import Certificate
from sidecar.listeners.entrance import Entrance, Place
from sidecar.listeners.grpc.guard import IFACE, Bounds, GuardedConnection
from sidecar.listeners.grpc.messages import POOL
from sidecar.listeners.grpc.runner import Calls
from sidecar.listeners.grpc.service import FutuOpenD
from sidecar.listeners.handshake import handshake_failed
from sidecar.listeners.room import Room
from sidecar.policy.decision import Code, Refusal
from sidecar.settings import Limits
from sidecar.tasks import Tasks

_LAST_ANSWERS = 1.0
"""Seconds for the calls that are open when the door closes."""


class GrpcListener:
    def __init__(
        self, settings: Settings, limits: Limits, *, desks: Desks, certificate: Certificate | None = None
    ) -> None:
        self._limits = limits
        self._metrics = desks.gate.metrics
        self._service = FutuOpenD(desks, limits)
        self._status = ServiceStatus()
        self._status.set(True)
        self._methods = self._all_methods(settings.reflection)
        self._bounds = Bounds(limits.handshake_timeout, limits.client_buffer, limits.client_stall)
        self._tasks = Tasks()
        self._room: Room[GuardedConnection] = Room(IFACE, limits.max_clients, self._metrics)
        place = Place(
            settings.bind, settings.port, "`--grpc-port` or the setting `listeners.grpc`",
            certificate=certificate, patience=limits.handshake_timeout,
        )  # fmt: skip
        self._entrance = Entrance(place, partial(handshake_failed, desks.gate, IFACE))

    def _all_methods(self, reflection: bool) -> Mapping[str, Handler]:
        services: list[Any] = [self._service, Health({self._service: [self._status]})]
        if reflection:
            # SECURITY: asks for no key: it tells what the .proto file tells
            services = ServerReflection.extend(services, pool=POOL)
        return {path: handler for service in services for path, handler in service.__mapping__().items()}

    # -- Door -----------------------------------------------------------------------------------------------------

    async def start(self) -> int | str:
        return await self._entrance.open(self._connection)

    def stop_accepting(self) -> None:
        self._status.set(False)
        self._entrance.close()

    def close_clients(self) -> None:
        for connection in self._room:
            connection.finish()

    async def stop(self) -> None:
        self.stop_accepting()
        self.close_clients()
        await self._tasks.drain(_LAST_ANSWERS)
        for connection in self._room:
            connection.close()

    def keys_changed(self) -> None:
        """Every call asks for its key anew, and the desks end the streams."""

    def tick(self) -> None:
        now = asyncio.get_running_loop().time()
        for connection in self._room:
            connection.tick(now)

    # -- connections ----------------------------------------------------------------------------------------------

    def _connection(self) -> GuardedConnection:
        return GuardedConnection(
            self._bounds, self._metrics, admit=self._admit, gone=self._room.leave, calls=self._calls
        )

    def _admit(self, connection: GuardedConnection) -> bool:
        if not self._room.has_place():
            full = Refusal(Code.UPSTREAM_FULL, f"there are {len(self._room)} gRPC clients, which is the limit")
            self._service.refuse_anyone(connection.address, full, "connect")
            return False
        self._room.enter(connection)
        return True

    def _calls(self, connection: GuardedConnection) -> Calls:
        return Calls(
            connection, self._methods, self._service, self._tasks.spawn, self._limits.handshake_timeout,
            max(self._limits.client_buffer, self._limits.request_body),
        )  # fmt: skip
