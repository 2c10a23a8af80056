"""The gRPC door."""

from __future__ import annotations

from aiohttp import web

from sidecar.desk import Desks
from sidecar.listeners.door import HttpPort
from sidecar.settings import GrpcListener as Settings
from sidecar.settings import Limits


class GrpcListener:
    def __init__(self, settings: Settings, limits: Limits, *, desks: Desks) -> None:
        self._http = HttpPort(
            web.Application(), settings.bind, settings.port, "`--grpc-port` or the setting `listeners.grpc`"
        )

    async def start(self) -> int:
        return await self._http.start()

    def stop_accepting(self) -> None:
        self._http.stop_accepting()

    def close_clients(self) -> None: ...

    async def stop(self) -> None:
        await self._http.stop()

    def keys_changed(self) -> None: ...

    def tick(self) -> None: ...
