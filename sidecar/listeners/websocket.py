"""The WebSocket door."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from aiohttp import web

from sidecar.gate import Gate
from sidecar.listeners.door import HttpPort
from sidecar.relay import RelaySettings
from sidecar.returns import Returns
from sidecar.settings import Limits
from sidecar.settings import WebSocketListener as Settings
from sidecar.upstream.pool import Pool


class WebSocketListener:
    def __init__(
        self, settings: Settings, limits: Limits, *, gate: Gate, returns: Returns, pool: Pool, relay: RelaySettings,
        spawn: Callable[..., asyncio.Task[Any]],
    ) -> None:  # fmt: skip
        self._http = HttpPort(
            web.Application(), settings.bind, settings.port, "`--ws-port` or the setting `listeners.websocket`"
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
