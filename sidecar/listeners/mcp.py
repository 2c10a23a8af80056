"""The MCP door."""

from __future__ import annotations

from aiohttp import web

from sidecar.desk import Desks
from sidecar.listeners.door import HttpPort
from sidecar.settings import Limits
from sidecar.settings import McpListener as Settings


class McpListener:
    def __init__(self, settings: Settings, limits: Limits, *, desks: Desks) -> None:
        self._http = HttpPort(
            web.Application(), settings.bind, settings.port, "`--mcp-port` or the setting `listeners.mcp`"
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
